// The report as one HTML file.
#include <fmt/format.h>

#include <map>

#include "verdict/evidence_report.h"
#include "verdict/html.h"
#include "verdict/report.h"
#include "verdict/work.h"

namespace triage::verdict {
namespace {

std::string section(const std::string& title, const std::string& content) {
  return content.empty() ? "" : "<h2>" + html_escaped(title) + "</h2>\n" + content;
}

bool good(const ReceiptCase& result) { return result.outcome == Outcome::ok && result.correct.ok; }

std::string summary(const Run& run) {
  const bool all_right = headline(run).rfind("All", 0) == 0;
  std::string html = fmt::format("<p class=\"lead {}\">{}</p>\n", all_right ? "good" : "bad", html_escaped(headline(run)));
  for (const Receipt& receipt : run.receipts) {
    html += "<p>" + html_escaped(device_sentence(receipt.device)) + ". " + html_escaped(receipt.date) + ".</p>\n";
  }
  std::vector<std::string> failures;
  for (const Receipt& receipt : run.receipts) {
    for (const ReceiptCase& result : receipt.cases) {
      if (good(result)) continue;
      failures.push_back(fmt::format("{} {} {}: {}", outcome_word(result), result.kernel,
                                     case_label(result.shape, result.shared_memory_kb),
                                     result.failure.empty() ? result.correct.detail : result.failure));
    }
  }
  for (const std::string& finding : sanitizer_findings(run)) failures.push_back(finding);
  if (!failures.empty()) html += html_list(failures);
  std::vector<std::string> standings;
  for (const PeerStanding& standing : peer_standings(run)) standings.push_back(standing.sentence());
  if (!standings.empty()) html += html_list(standings);
  return html;
}

std::string results(const Receipt& receipt) {
  std::vector<std::vector<std::string>> rows, classes;
  for (const ReceiptCase& result : receipt.cases) {
    rows.push_back(result_cells(result));
    std::vector<std::string> css(rows.back().size());
    css[3] = good(result) ? "good" : "bad";
    const ReceiptPeer* best = fastest_peer(result);
    if (best && result.time) css[9] = speed_up(result, *best) >= 1 ? "good" : "warn";
    classes.push_back(css);
  }
  return rows.empty() ? "" : html_table(result_header(), rows, classes);
}

std::string matrix(const SupportMatrix& support) {
  std::vector<std::string> header{"kernel"};
  for (const MatrixTarget& target : matrix_targets()) {
    header.push_back(*target.example ? fmt::format("{} ({})", target.title, target.example) : target.title);
  }
  std::vector<std::vector<std::string>> rows, classes;
  for (std::size_t k = 0; k < support.kernels.size(); ++k) {
    std::vector<std::string> row{support.kernels[k].name}, css{""};
    for (const MatrixCell& cell : support.cells[k]) {
      row.push_back(cell.text());
      css.push_back(cell.state == CellState::validated     ? "good"
                    : cell.state == CellState::failed      ? "bad"
                    : cell.state == CellState::stale       ? "warn"
                    : cell.state == CellState::unsupported ? "faint"
                                                           : "");
    }
    rows.push_back(row);
    classes.push_back(css);
  }
  return html_table(header, rows, classes);
}

std::string roofline(const Receipt& receipt) {
  std::vector<RooflinePoint> points;
  for (const ReceiptCase& result : receipt.cases) {
    if (!result.time) continue;
    points.push_back({intensity(result.op, result.shape, result.dtype), result.tflops,
                      result.kernel + " " + case_label(result.shape, result.shared_memory_kb)});
  }
  const ReceiptDevice& device = receipt.device;
  if (device.compute_capability == "cpu") {
    return svg_roofline(points, device.fp32_peak_tflops, "fp32 multiply-adds", device.dense_fp32_tflops, "dense sgemm",
                        device.memory_gbytes_per_s);
  }
  return svg_roofline(points, device.dense_fp16_tflops, "dense fp16", device.mma_sync_tflops, "mma.sync",
                      device.memory_gbytes_per_s);
}

/// Ours over each peer, in the geometric mean of all cases, by operation.
std::string standings_chart(const Run& run) {
  std::vector<BarGroup> groups;
  for (const PeerStanding& standing : peer_standings(run)) {
    const std::string op = standing.op.substr(standing.op.rfind('.') + 1);
    if (groups.empty() || groups.back().title != op) groups.push_back({op, {}});
    groups.back().bars.push_back({standing.peer, standing.mean, standing.mean >= 1});
  }
  return svg_bars(groups, "x", "Speed of ours over each peer", 1, "as fast as the peer");
}

/// Ours against each peer case by case: the cube, and attention.
std::string bars(const Receipt& receipt) {
  std::vector<BarGroup> groups;
  for (const ReceiptCase& result : receipt.cases) {
    if (!result.time || result.peers.empty()) continue;
    if (result.shape.name != "cube" && !result.shape.attention) continue;
    BarGroup group;
    group.title = fmt::format("{} {} {}", result.op.substr(result.op.rfind('.') + 1),
                              case_label(result.shape, result.shared_memory_kb), result.dtype);
    // Rates on nonzero blocks for all: a dense product spends most of its operations on zeros.
    const double useful = flops(result.op, result.shape);
    group.bars.push_back({result.kernel, result.tflops, true});
    for (const ReceiptPeer& peer : result.peers) {
      const bool dense = dense_peer(result) == &peer;
      group.bars.push_back({peer.name, dense ? tflops(useful, peer.time_ms) : peer.tflops, false});
    }
    groups.push_back(group);
  }
  return svg_bars(groups, "TF/s", "Rates of ours and the peers");
}

/// Up to which density sparse is faster than dense, by operation and block size: the fastest kernel speaks.
std::string crossover_by_block(const Run& run) {
  std::map<std::string, std::map<int, double>> density;
  for (const Receipt& receipt : run.receipts) {
    for (const ReceiptCrossover& crossover : receipt.crossovers) {
      double& best = density[crossover.op.substr(crossover.op.rfind('.') + 1) + " " + crossover.dtype][crossover.block];
      best = std::max(best, crossover.relation == "below" ? 0 : crossover.density);
    }
  }
  std::vector<BarGroup> groups;
  for (const auto& [title, blocks] : density) {
    BarGroup group{title, {}};
    for (const auto& [block, most] : blocks) group.bars.push_back({fmt::format("block {}", block), most, true});
    groups.push_back(group);
  }
  return svg_bars(groups, "", "Density below which sparse is faster than dense", 1, "dense");
}

std::string crossovers(const Run& run) {
  std::vector<std::vector<std::string>> rows;
  std::string charts;
  for (const Receipt& receipt : run.receipts) {
    for (const ReceiptCrossover& crossover : receipt.crossovers) {
      rows.push_back({crossover.op, std::to_string(crossover.block), crossover.dtype, crossover.kernel,
                      crossover.dense_peer, crossover_sentence(crossover)});
      charts += svg_crossover({fmt::format("{}, block {}", crossover.kernel, crossover.block), crossover.points,
                               crossover.dense_ms, crossover.relation == "at" ? crossover.density : 0});
    }
  }
  if (rows.empty()) return "";
  return crossover_by_block(run) +
         html_table({"operation", "block", "dtype", "kernel", "dense peer", "sparse is faster"}, rows) +
         "<div class=\"charts\">" + charts + "</div>\n";
}

}  // namespace

std::string report_html(const Run& run) {
  std::string body = "<h1>Verdict</h1>\n" + section("Executive summary", summary(run));
  if (const auto lines = recommendations(run); !lines.empty()) body += section("What to use here", html_list(lines));
  if (!run.matrix.kernels.empty()) body += section("Support matrix", matrix(run.matrix));
  for (const Receipt& receipt : run.receipts) {
    const std::string where = run.receipts.size() > 1 ? ": " + receipt.device.name : "";
    body += section("Roofline" + where, roofline(receipt));
  }
  body += section("Ours over each peer, geometric mean", standings_chart(run));
  for (const Receipt& receipt : run.receipts) {
    const std::string where = run.receipts.size() > 1 ? ": " + receipt.device.name : "";
    body += section("Beside the peers, useful TFLOP/s" + where, bars(receipt));
    body += section("Cases" + where, results(receipt));
  }
  body += section("Crossover against the dense product", crossovers(run));
  body += section("Evidence, kernel by kernel", evidence_html(run));
  if (const auto lines = notes(run); !lines.empty()) body += section("Notes", html_list(lines));
  if (const auto absent = absent_peers(run); !absent.empty()) body += section("Not measured", html_list(absent));
  return html_page("Triage verdict", body);
}

}  // namespace triage::verdict
