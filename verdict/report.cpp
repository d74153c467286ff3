// What the reports have in common: numbers, cells and sentences; and the reports as text, Markdown and JSON.
#include "verdict/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "verdict/evidence_report.h"
#include "verdict/terminal.h"
#include "verdict/timing.h"

namespace triage::verdict {
namespace {

std::string short_op(const std::string& op) { return op.substr(op.rfind('.') + 1); }

TextTable crossover_table(const Run& run) {
  TextTable table({"operation", "block", "dtype", "kernel", "dense peer", "sparse is faster"});
  for (const Receipt& receipt : run.receipts) {
    for (const ReceiptCrossover& crossover : receipt.crossovers) {
      table.add({short_op(crossover.op), std::to_string(crossover.block), crossover.dtype, crossover.kernel,
                 crossover.dense_peer, crossover_sentence(crossover)});
    }
  }
  return table;
}

TextTable table_of(const std::vector<std::string>& header, const Rows& rows) {
  TextTable table(header);
  for (const std::vector<std::string>& row : rows) table.add(row);
  return table;
}

template <class Visit>
void each_case(const Run& run, Visit visit) {
  for (const Receipt& receipt : run.receipts) {
    for (const ReceiptCase& result : receipt.cases) visit(result);
  }
}

std::string joined_lines(const std::vector<std::string>& lines, const char* before) {
  std::string text;
  for (const std::string& line : lines) text += before + line + "\n";
  return text;
}

std::vector<std::string> grid_sentences(const Run& run) {
  std::vector<std::string> lines;
  for (const Receipt& receipt : run.receipts) {
    for (const ReceiptGrid& grid : receipt.grids) lines.push_back(grid_sentence(grid));
  }
  return lines;
}

std::vector<std::string> standing_sentences(const Run& run) {
  std::vector<std::string> lines;
  for (const PeerStanding& standing : peer_standings(run)) lines.push_back(standing.sentence());
  return lines;
}

/// How one kernel fares on one problem: "1.32x of cublas_dense at density 0.22".
std::string comparison(const ReceiptCase& result) {
  const ReceiptPeer* best = fastest_peer(result);
  if (!best) return fmt::format("no peer measured at density {:.2g}", result.shape.density);
  const double times = speed_up(result, *best);
  return times >= 1 ? fmt::format("{} as fast as {} at density {:.2g}", factor(times), best->name, result.shape.density)
                    : fmt::format("slower than {} at density {:.2g} ({} as fast)", best->name, result.shape.density,
                                  factor(times));
}

}  // namespace

const ReceiptPeer* fastest_peer(const ReceiptCase& result) {
  const auto best = std::min_element(result.peers.begin(), result.peers.end(),
                                     [](const auto& a, const auto& b) { return a.time_ms < b.time_ms; });
  return best == result.peers.end() ? nullptr : &*best;
}

const ReceiptPeer* dense_peer(const ReceiptCase& result) {
  for (const ReceiptPeer& peer : result.peers) {
    if (peer.name.find("dense") != std::string::npos) return &peer;
  }
  return nullptr;
}

double speed_up(const ReceiptCase& result, const ReceiptPeer& peer) {
  return result.time && result.time->median > 0 ? peer.time_ms / result.time->median : 0;
}

std::string outcome_word(const ReceiptCase& result) {
  switch (result.outcome) {
    case Outcome::ok: return result.correct.ok ? "ok" : "WRONG";
    case Outcome::wrong: return "WRONG";
    case Outcome::crashed: return "CRASHED";
    case Outcome::hung: return "HUNG";
  }
  return "?";
}

std::string milliseconds(double ms) { return ms >= 100 ? fmt::format("{:.1f}", ms) : fmt::format("{:.4g}", ms); }
std::string rate(double tflops) { return tflops >= 100 ? fmt::format("{:.0f}", tflops) : fmt::format("{:.3g}", tflops); }
std::string factor(double times) { return fmt::format("{:.2f}x", times); }
std::string percent(double share) { return fmt::format("{:.0f}%", 100 * share); }

const std::vector<std::string>& result_header() {
  static const std::vector<std::string> header{"kernel",    "case",      "dtype",     "result", "ms",      "TF/s",
                                               "% of roof", "best peer", "peer TF/s", "speed",  "vs dense"};
  return header;
}

std::string case_label(const ReceiptShape& shape, int shared_memory_kb) {
  const std::string limited = shared_memory_kb > 0 ? fmt::format(" {}KB", shared_memory_kb) : "";
  if (shape.attention) return shape.attention->label() + limited;
  const bool cube = shape.m == shape.n && shape.n == shape.k;
  std::string label = cube ? fmt::format("{} {}", shape.name, shape.m) : shape.name;
  label += fmt::format(" b{} d{:.2g}", shape.block, shape.density);
  if (!shape.epilogue.empty()) label += " " + shape.epilogue;
  if (shape.layout != "canonical") label += " " + shape.layout;
  return label + limited;
}

std::vector<std::string> result_cells(const ReceiptCase& result) {
  std::vector<std::string> cells{result.kernel, case_label(result.shape, result.shared_memory_kb), result.dtype,
                                 outcome_word(result)};
  const bool timed = result.time.has_value();
  cells.push_back(timed ? milliseconds(result.time->median) : "-");
  cells.push_back(timed ? rate(result.tflops) : "-");
  cells.push_back(timed && result.roof_tflops > 0
                      ? fmt::format("{} {}", percent(result.tflops / result.roof_tflops), result.roof_limit)
                      : "-");
  const ReceiptPeer* best = fastest_peer(result);
  const ReceiptPeer* dense = dense_peer(result);
  cells.push_back(best ? best->name : "not measured");
  cells.push_back(best ? rate(best->tflops) : "-");
  cells.push_back(best && timed ? factor(speed_up(result, *best)) : "-");
  cells.push_back(dense && timed ? factor(speed_up(result, *dense)) : "-");
  return cells;
}

std::string device_sentence(const ReceiptDevice& device) {
  std::string text = device.name;
  if (device.compute_capability != "cpu") text += fmt::format(" (compute capability {})", device.compute_capability);
  if (device.threads > 0) text += fmt::format(", {} threads", device.threads);
  if (!device.driver.empty()) text += ", driver " + device.driver;
  if (!device.cuda.empty()) text += ", CUDA " + device.cuda;
  std::vector<std::string> limits;
  const auto limit = [&](double value, const char* what, const char* unit) {
    if (value > 0) limits.push_back(fmt::format("{} {} {}", what, rate(value), unit));
  };
  limit(device.dense_fp16_tflops, "dense fp16 (cuBLAS, 8192^3)", "TF/s");
  limit(device.mma_sync_tflops, "mma.sync alone", "TF/s");
  limit(device.dense_fp32_tflops, "dense fp32 (sgemm)", "TF/s");
  limit(device.fp32_peak_tflops, "fp32 multiply-adds", "TF/s");
  limit(device.memory_gbytes_per_s, "memory", "GB/s");
  if (!limits.empty()) text += fmt::format("; measured limits: {}", fmt::join(limits, ", "));
  return text;
}

std::string crossover_sentence(const ReceiptCrossover& crossover) {
  if (crossover.relation == "above") return fmt::format("at every density measured, up to {:.2g}", crossover.density);
  if (crossover.relation == "below") return fmt::format("at none measured, {:.2g} and above", crossover.density);
  return fmt::format("below density {:.2f}", crossover.density);
}

std::string grid_sentence(const ReceiptGrid& grid) {
  if (grid.outcome != Outcome::ok && grid.failed == 0) {
    return fmt::format("{}: the correctness grid {}: {}", grid.kernel, outcome_name(grid.outcome), grid.failure);
  }
  if (grid.failed > 0) {
    return fmt::format("{}: {} of {} problems of the correctness grid are wrong; the first: {}", grid.kernel, grid.failed,
                       grid.cases, grid.failure);
  }
  if (grid.cases == 0 && grid.refused > 0) {
    return fmt::format("{}: it took none of the {} problems of the correctness grid: nothing was checked", grid.kernel,
                       grid.refused);
  }
  const std::string refused = grid.refused > 0 ? fmt::format("; {} more it does not take", grid.refused) : "";
  return fmt::format("{}: {} problems of the correctness grid, all correct{}", grid.kernel, grid.cases, refused);
}

std::vector<std::string> recommendations(const Run& run) {
  // By operation, dtype and block on the cube: the kernel that is fastest at each density.
  using Key = std::tuple<std::string, std::string, int>;
  std::map<Key, std::map<double, const ReceiptCase*>> fastest;
  std::vector<Key> order;
  each_case(run, [&](const ReceiptCase& result) {
    if (result.outcome != Outcome::ok || !result.correct.ok || !result.time || result.shape.name != "cube") return;
    const Key key{result.op, result.dtype, result.shape.block};
    if (fastest.find(key) == fastest.end()) order.push_back(key);
    const ReceiptCase*& best = fastest[key][result.shape.density];
    // The cube may have been run at two sizes: the larger one speaks.
    if (!best || result.shape.m > best->shape.m ||
        (result.shape.m == best->shape.m && result.time->median < best->time->median)) {
      best = &result;
    }
  });
  std::vector<std::string> lines;
  for (const Key& key : order) {
    const auto& [op, dtype, block] = key;
    std::vector<std::string> parts;
    std::set<std::string> kernels;
    bool slower = false;
    for (const auto& [density, result] : fastest[key]) {
      std::string kernel = result->kernel;
      if (result->shape.layout != "canonical") kernel += " (" + result->shape.layout + " values)";
      kernels.insert(kernel);
      parts.push_back(comparison(*result));
      const ReceiptPeer* best = fastest_peer(*result);
      slower = slower || (best && speed_up(*result, *best) < 1);
    }
    std::string line = fmt::format("{}, block {}, {}: {}: {}", short_op(op), block, dtype, fmt::join(kernels, " or "),
                                   fmt::join(parts, "; "));
    for (const Receipt& receipt : run.receipts) {
      for (const ReceiptCrossover& crossover : receipt.crossovers) {
        if (crossover.op == op && crossover.dtype == dtype && crossover.block == block) {
          line += fmt::format(". Against the dense product sparse is faster {}", crossover_sentence(crossover));
          break;
        }
      }
    }
    if (slower) line += ". Where it is slower, use the peer";
    lines.push_back(line + ".");
  }
  return lines;
}

std::string PeerStanding::sentence() const {
  return fmt::format("{}: faster than {} in {} of {} cases, {} as fast in the geometric mean ({} to {})", short_op(op), peer,
                     faster, cases, factor(mean), factor(least), factor(most));
}

std::vector<PeerStanding> peer_standings(const Run& run) {
  std::vector<PeerStanding> standings;
  each_case(run, [&](const ReceiptCase& result) {
    if (!result.time || result.outcome != Outcome::ok || !result.correct.ok) return;
    for (const ReceiptPeer& peer : result.peers) {
      const double times = speed_up(result, peer);
      if (times <= 0) continue;
      auto found = std::find_if(standings.begin(), standings.end(), [&](const PeerStanding& standing) {
        return standing.op == result.op && standing.peer == peer.name;
      });
      if (found == standings.end()) found = standings.insert(found, {result.op, peer.name, 0, 0, 0, times, times});
      ++found->cases;
      found->faster += times > 1;
      found->mean += std::log(times);
      found->least = std::min(found->least, times);
      found->most = std::max(found->most, times);
    }
  });
  for (PeerStanding& standing : standings) standing.mean = std::exp(standing.mean / standing.cases);
  return standings;
}

std::string add_peer_results(Run& run, const Receipt& results, const std::string& source) {
  const auto key = [](const ReceiptCase& result) {
    ReceiptShape shape = result.shape;
    shape.nnz_blocks = 0;  // the pattern's own: it follows from the rest and the seed
    return result.op + " " + result.dtype + " " + to_json(shape).dump();
  };
  std::map<std::string, const ReceiptCase*> measured;
  for (const ReceiptCase& result : results.cases) {
    if (!result.peers.empty()) measured[key(result)] = &result;
  }
  int matched = 0;
  for (Receipt& receipt : run.receipts) {
    for (ReceiptCase& result : receipt.cases) {
      const auto found = measured.find(key(result));
      if (found == measured.end() || receipt.device.name != results.device.name) continue;
      ++matched;
      for (const ReceiptPeer& peer : found->second->peers) {
        const bool known = std::any_of(result.peers.begin(), result.peers.end(),
                                       [&](const ReceiptPeer& own) { return own.name == peer.name; });
        if (!known) result.peers.push_back(peer);
      }
      for (const AbsentPeer& absent : found->second->not_measured) result.not_measured.push_back(absent);
    }
  }
  return fmt::format("{} cases show peers that were measured in another run, on {} ({})", matched, results.device.name, source);
}

std::vector<std::string> absent_peers(const Run& run) {
  std::vector<std::string> lines;
  std::set<std::pair<std::string, std::string>> seen;
  each_case(run, [&](const ReceiptCase& result) {
    for (const AbsentPeer& peer : result.not_measured) {
      if (seen.insert({peer.name, peer.reason}).second) lines.push_back(fmt::format("{}: {}", peer.name, peer.reason));
    }
  });
  return lines;
}

std::string headline(const Run& run) {
  int cases = 0, wrong = 0, broken = 0, problems = 0;
  std::size_t watched = 0, profiled = 0;
  each_case(run, [&](const ReceiptCase& result) {
    ++cases;
    if (result.outcome == Outcome::crashed || result.outcome == Outcome::hung) ++broken;
    else if (!result.correct.ok) ++wrong;
  });
  for (const Receipt& receipt : run.receipts) {
    for (const ReceiptGrid& grid : receipt.grids) {
      problems += grid.cases;
      wrong += grid.failed;
      if (grid.outcome == Outcome::crashed || grid.outcome == Outcome::hung) ++broken;
    }
    watched += receipt.sanitizer.size();
    for (const ReceiptSanitizer& entry : receipt.sanitizer) {
      wrong += entry.outcome == Outcome::wrong;
      broken += entry.outcome == Outcome::crashed || entry.outcome == Outcome::hung;
    }
    profiled += receipt.profiles.size();
    for (const ReceiptProfile& profile : receipt.profiles) broken += profile.outcome != Outcome::ok;
  }
  if (wrong == 0 && broken == 0 && cases == 0 && problems == 0 && watched + profiled > 0) {
    const std::string kernels = fmt::format("{} kernels were profiled", profiled);
    if (watched == 0) return "All right: " + kernels + ".";
    return fmt::format("All {} runs of compute-sanitizer's tools are clean{}.", watched, profiled > 0 ? "; " + kernels : "");
  }
  if (wrong == 0 && broken == 0) {
    if (watched > 0) {
      return fmt::format("All {} timed cases and all {} problems of the correctness grids are correct, and all {} runs of "
                         "compute-sanitizer's tools are clean.", cases, problems, watched);
    }
    return fmt::format("All {} timed cases and all {} problems of the correctness grids are correct.", cases, problems);
  }
  std::string text = fmt::format("NOT ALL RIGHT: {} wrong results, {} cases that hung or crashed, out of {} timed cases and "
                                 "{} problems of the correctness grids", wrong, broken, cases, problems);
  if (watched + profiled > 0) text += fmt::format(", {} runs of compute-sanitizer's tools and {} profiles", watched, profiled);
  return text + ".";
}

std::vector<std::string> notes(const Run& run) {
  std::vector<std::string> lines = run.remarks;
  int timed = 0, spread_out = 0, slowed = 0;
  double widest = 0;
  std::string slowed_by;
  each_case(run, [&](const ReceiptCase& result) {
    if (!result.time) return;
    ++timed;
    spread_out += spread(*result.time) > kNotedSpread;
    widest = std::max(widest, spread(*result.time));
    const std::size_t clocks = result.note.find("clocks ");
    if (clocks == std::string::npos) return;
    ++slowed;
    slowed_by = result.note.substr(clocks, result.note.find(';', clocks) - clocks);
  });
  if (spread_out > 0) {
    lines.push_back(fmt::format("{} of {} timings spread by more than {} of their median (p80 - p20), up to {}", spread_out,
                                timed, percent(kNotedSpread), percent(widest)));
  }
  if (slowed > 0) lines.push_back(fmt::format("during {} of {} timings {}", slowed, timed, slowed_by));
  return lines;
}

std::string report_text(const Run& run, bool colour) {
  const bool good = headline(run).rfind("All", 0) == 0;
  std::string text = "\n" + painted(headline(run), good ? Colour::green : Colour::red, colour) + "\n";
  each_case(run, [&](const ReceiptCase& result) {
    if (result.outcome == Outcome::ok && result.correct.ok) return;
    text += fmt::format("  {} {} {}: {}\n", outcome_word(result), result.kernel,
                        case_label(result.shape, result.shared_memory_kb), result.failure.empty() ? result.correct.detail : result.failure);
  });
  const auto section = [&](const char* title, const std::string& body) {
    if (!body.empty()) text += "\n" + painted(title, Colour::bold, colour) + "\n" + body;
  };
  std::vector<std::string> machines;
  for (const Receipt& receipt : run.receipts) machines.push_back(device_sentence(receipt.device));
  section("Machine", joined_lines(machines, "  "));
  section("Correctness grids", joined_lines(grid_sentences(run), "  "));
  const TextTable sanitizer = table_of(sanitizer_header(), sanitizer_rows(run));
  if (!sanitizer.empty()) section("compute-sanitizer", sanitizer.text() + joined_lines(sanitizer_findings(run), "  "));
  const TextTable profiles = table_of(profile_header(), profile_rows(run));
  const std::string limits = joined_lines(profile_sentences(run), "  ");
  if (!limits.empty()) section("Nsight Compute", (profiles.empty() ? "" : profiles.text()) + limits);
  const TextTable crossovers = crossover_table(run);
  if (!crossovers.empty()) section("Crossover against the dense product", crossovers.text());
  if (!run.matrix.kernels.empty()) section("Support matrix", matrix_text(run.matrix, colour));
  section("Beside the peers", joined_lines(standing_sentences(run), "  "));
  section("Notes", joined_lines(notes(run), "  "));
  section("Not measured", joined_lines(absent_peers(run), "  "));
  section("What to use here", joined_lines(recommendations(run), "  "));
  return text;
}

std::string report_markdown(const Run& run) {
  std::string text = "# Verdict\n\n" + headline(run) + "\n\n";
  for (const Receipt& receipt : run.receipts) text += device_sentence(receipt.device) + ". " + receipt.date + ".\n\n";
  TextTable results(result_header());
  each_case(run, [&](const ReceiptCase& result) { results.add(result_cells(result)); });
  text += "## Cases\n\n" + results.markdown();
  each_case(run, [&](const ReceiptCase& result) {
    if (result.outcome == Outcome::ok && result.correct.ok) return;
    text += fmt::format("\n- {} {} {}: {}", outcome_word(result), result.kernel,
                        case_label(result.shape, result.shared_memory_kb), result.failure.empty() ? result.correct.detail : result.failure);
  });
  if (!run.matrix.kernels.empty()) text += "\n## Support matrix\n\n" + matrix_markdown(run.matrix);
  const TextTable crossovers = crossover_table(run);
  if (!crossovers.empty()) text += "\n## Crossover against the dense product\n\n" + crossovers.markdown();
  const auto section = [&](const char* title, const std::vector<std::string>& lines) {
    if (!lines.empty()) text += fmt::format("\n## {}\n\n{}", title, joined_lines(lines, "- "));
  };
  section("Correctness grids", grid_sentences(run));
  if (const TextTable sanitizer = table_of(sanitizer_header(), sanitizer_rows(run)); !sanitizer.empty()) {
    text += "\n## compute-sanitizer\n\n" + sanitizer.markdown();
    const std::string findings = joined_lines(sanitizer_findings(run), "- ");
    if (!findings.empty()) text += "\n" + findings;
  }
  if (const TextTable profiles = table_of(profile_header(), profile_rows(run)); !profiles.empty()) {
    text += "\n## Nsight Compute\n\n" + profiles.markdown();
  }
  section("What limits each kernel", profile_sentences(run));
  section("Beside the peers", standing_sentences(run));
  section("Notes", notes(run));
  section("Not measured", absent_peers(run));
  section("What to use here", recommendations(run));
  return text;
}

Json report_json(const Run& run) {
  Receipt all;
  if (!run.receipts.empty()) {
    all.device = run.receipts.front().device;
    all.date = run.receipts.front().date;
  }
  for (const Receipt& receipt : run.receipts) {
    all.cases.insert(all.cases.end(), receipt.cases.begin(), receipt.cases.end());
    all.grids.insert(all.grids.end(), receipt.grids.begin(), receipt.grids.end());
    all.crossovers.insert(all.crossovers.end(), receipt.crossovers.begin(), receipt.crossovers.end());
    all.sanitizer.insert(all.sanitizer.end(), receipt.sanitizer.begin(), receipt.sanitizer.end());
    all.profiles.insert(all.profiles.end(), receipt.profiles.begin(), receipt.profiles.end());
  }
  Json json = to_json(all);
  if (run.receipts.size() > 1) json["host"] = to_json(run.receipts.back().device);
  json["quick"] = run.quick;
  json["matrix"] = matrix_json(run.matrix);
  json["recommendations"] = recommendations(run);
  json["remarks"] = notes(run);
  return json;
}

}  // namespace triage::verdict
