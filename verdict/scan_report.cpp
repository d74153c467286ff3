#include "verdict/scan_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "io/text.h"
#include "verdict/terminal.h"

namespace triage::verdict {
namespace {

// "0%", "<1%", "25%", ">99%", "100%": rounding must not turn "almost all" into "all".
std::string share_text(double share) {
  if (share > 0 && share < 0.01) return "<1%";
  if (share < 1 && share > 0.99) return ">99%";
  return fmt::format("{:.0f}%", 100 * share);
}

std::string shape_cell(std::int64_t rows, std::int64_t cols) { return fmt::format("{}x{}", rows, cols); }
std::string megabytes(std::uint64_t bytes) { return fmt::format("{:.2f}", static_cast<double>(bytes) * 1e-6); }
std::string ms_cell(double ms) { return ms > 0 ? fmt::format("{:.4g}", ms) : "-"; }
std::string gain_cell(double gain) { return gain > 0 ? fmt::format("{:.2f}x", gain) : "-"; }
std::string error_cell(double error) { return std::isnan(error) ? "nan" : fmt::format("{:.3f}", error); }

double ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

// `text` in lines of at most `width` columns, broken at spaces.
std::string wrapped(const std::string& text, std::size_t width, const std::string& indent = "") {
  std::string out, line;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string piece = text.substr(begin, end - begin);
    if (!line.empty() && display_width(line) + 1 + display_width(piece) > width) {
      out += line + "\n";
      line = indent + piece;
    } else {
      line += (line.empty() ? "" : " ") + piece;
    }
    begin = end + 1;
  }
  return out + line + "\n";
}

std::string word(const Measurement& measured) {
  return measured.wrong.empty() ? verdict_name(measured.verdict()) : "WRONG";
}

// Cells after the name's.
using Row = std::vector<std::string>;

const Row kScanHeader{"shape", "z16", "z32", "z64", "z128", "block", "sparse", "dense", "gain", "pays"};
const Row kPruneHeader{"shape", "kept", "sparse", "dense", "gain", "pays", "error", "MB", "saved"};

Row scan_row(const LayerReport& layer) {
  Row row{shape_cell(layer.rows, layer.cols)};
  for (std::size_t i = 0; i < kBlockSizes.size(); ++i) row.push_back(share_text(layer.zero_share(i)));
  const Measurement* best = layer.best();
  if (best == nullptr) {
    row.insert(row.end(), {"-", "-", "-", "-", "not measured"});
  } else {
    row.insert(row.end(), {std::to_string(best->block), ms_cell(best->sparse->median),
                           ms_cell(best->dense ? best->dense->median : 0), gain_cell(best->speedup()), word(*best)});
  }
  return row;
}

Row scan_total(const ScanTotals& totals) {
  Row row{""};
  for (std::size_t i = 0; i < kBlockSizes.size(); ++i) {
    const auto all = static_cast<double>(totals.blocks[i]);
    row.push_back(share_text(ratio(all - static_cast<double>(totals.nonzero[i]), all)));
  }
  row.insert(row.end(), {"-", ms_cell(totals.sparse_ms), ms_cell(totals.dense_ms), gain_cell(totals.speedup()),
                         fmt::format("{}/{}", totals.faster, totals.measured)});
  return row;
}

Row prune_row(const LayerReport& layer) {
  const Measurement* best = layer.best();
  Row row{shape_cell(layer.rows, layer.cols),
          share_text(ratio(static_cast<double>(layer.kept_blocks), static_cast<double>(layer.prunable_blocks)))};
  if (best == nullptr) {
    row.insert(row.end(), {"-", "-", "-", "not measured", "-"});
  } else {
    row.insert(row.end(), {ms_cell(best->sparse->median), ms_cell(best->dense ? best->dense->median : 0),
                           gain_cell(best->speedup()), word(*best), error_cell(best->output_error())});
  }
  row.push_back(megabytes(layer.pruned_bytes));
  row.push_back(share_text(1 - ratio(static_cast<double>(layer.pruned_bytes), static_cast<double>(layer.dense_bytes))));
  return row;
}

Row prune_total(const ScanTotals& totals) {
  const double error = totals.norm_squared > 0 ? std::sqrt(totals.error_squared / totals.norm_squared) : 0;
  return {"",
          share_text(ratio(totals.kept, totals.total)),
          ms_cell(totals.sparse_ms),
          ms_cell(totals.dense_ms),
          gain_cell(totals.speedup()),
          fmt::format("{}/{}", totals.faster, totals.measured),
          error_cell(error),
          megabytes(totals.pruned_bytes),
          share_text(1 - ratio(static_cast<double>(totals.pruned_bytes), static_cast<double>(totals.dense_bytes)))};
}

TextTable layer_table(const ScanReport& report, std::size_t name_width) {
  const bool pruned = report.prune_to > 0;
  Row header = pruned ? kPruneHeader : kScanHeader;
  header.insert(header.begin(), "weight");
  TextTable table(header);
  const auto add = [&](const std::string& name, Row row) {
    row.insert(row.begin(), name);
    table.add(std::move(row));
  };
  for (const auto& layer : report.layers) {
    add(short_name(io::printable(layer.name), name_width), pruned ? prune_row(layer) : scan_row(layer));
  }
  const ScanTotals totals = report.totals();
  add("total", pruned ? prune_total(totals) : scan_total(totals));
  return table;
}

// The table as wide as `width` allows: names shrink until the longest line fits.
std::string fitted_table(const ScanReport& report, std::size_t width) {
  std::size_t longest = 0;
  for (const auto& layer : report.layers) longest = std::max(longest, display_width(io::printable(layer.name)));
  const std::string full = layer_table(report, longest).text();
  const std::size_t line = full.find('\n', full.find('\n') + 1) - full.find('\n') - 1;  // the rule spans every column
  if (line <= width) return full;
  constexpr std::size_t kShortestName = 12;
  const std::size_t excess = line - width;
  return layer_table(report, longest > excess + kShortestName ? longest - excess : kShortestName).text();
}

std::string legend(const ScanReport& report) {
  std::string text =
      report.prune_to > 0
          ? "kept: share of blocks that stay. error: |Y_pruned - Y| / |Y| for random activations. MB: pruned weight "
            "with its indices. saved: against the dense weight."
          : "z16 .. z128: share of blocks of that size that are all zero. block: the fastest block size measured.";
  return text + " sparse, dense: milliseconds a call, medians. gain: dense / sparse. pays: sparse beats dense.";
}

// "41%", "none (<5%)": sparse was slower down to the lowest density measured, "all".
std::string break_even_cell(const BreakEven& shape) {
  const ReceiptCrossover& crossover = shape.crossover;
  std::string text = share_text(crossover.density);
  if (crossover.relation == "below") text = fmt::format("none (<{})", text);
  if (crossover.relation == "above") text = "all";
  return text + (shape.disturbed ? " ?" : "");
}

TextTable break_even_table(const ScanReport& report) {
  std::set<int> blocks;
  std::map<std::pair<std::int64_t, std::int64_t>, std::map<int, std::string>> shapes;
  for (const auto& shape : report.break_even) {
    blocks.insert(shape.crossover.block);
    shapes[{shape.rows, shape.cols}][shape.crossover.block] = break_even_cell(shape);
  }
  Row header{"shape"};
  for (const int block : blocks) header.push_back(fmt::format("block {}", block));
  TextTable table(header);
  for (auto& [shape, cells] : shapes) {
    Row row{shape_cell(shape.first, shape.second)};
    for (const int block : blocks) row.push_back(cells.count(block) ? cells[block] : "-");
    table.add(row);
  }
  return table;
}

std::string setting(const ScanReport& report) {
  return fmt::format("{}: linear with {} tokens, {}; dense: {}", report.device, report.tokens, report.dtypes,
                     report.dense_name.empty() ? "not measured (" + report.dense_absence + ")" : report.dense_name);
}

std::string scan_verdict(const ScanTotals& totals) {
  const bool no_zeros = totals.nonzero[0] >= static_cast<std::int64_t>(0.99 * static_cast<double>(totals.blocks[0]));
  std::string text;
  if (no_zeros) {
    text = "This model has next to no zero blocks, so there is nothing to skip: as it is, block-sparsity does not pay.";
    if (totals.slower > 0) {
      text += fmt::format(" With every block stored, linear takes {:.2f}x the time of the dense product over all.",
                          ratio(totals.sparse_ms, totals.dense_ms));
    }
    return text + " It can pay after pruning: see --prune-to.";
  }
  if (totals.measured == 0) return "Whether sparse beats dense here was not measured.";
  text = fmt::format("Sparse beats dense for {} of {} matrices", totals.faster, totals.measured);
  if (totals.unclear > 0) text += fmt::format(" ({} are too close or too noisy to say)", totals.unclear);
  return text + fmt::format("; all of them together run {:.2f}x as fast as dense.", totals.speedup());
}

std::string prune_verdict(const ScanReport& report, const ScanTotals& totals) {
  std::string text = fmt::format(
      "{:.1f}% of the blocks of {} kept: the weights take {} instead of {} ({} saved)",
      100 * ratio(totals.kept, totals.total), report.prune_block, io::bytes_text(totals.pruned_bytes),
      io::bytes_text(totals.dense_bytes),
      share_text(1 - ratio(static_cast<double>(totals.pruned_bytes), static_cast<double>(totals.dense_bytes))));
  if (totals.dense_ms > 0) {
    text += fmt::format(", and linear runs {:.2f}x as fast as dense over all (faster for {} of {} matrices)",
                        totals.speedup(), totals.faster, totals.measured);
  }
  if (totals.unclear > 0) text += fmt::format("; {} are too close or too noisy to say", totals.unclear);
  if (totals.norm_squared > 0) {
    text += fmt::format(
        ". The outputs change by {:.0f}% (relative error {}): pruning by size alone, without training "
        "afterwards, costs accuracy",
        100 * std::sqrt(totals.error_squared / totals.norm_squared),
        error_cell(std::sqrt(totals.error_squared / totals.norm_squared)));
  }
  return text + ".";
}

std::vector<std::string> skipped_lines(const ScanReport& report) {
  std::map<std::string, std::vector<std::string>> by_reason;
  for (const auto& tensor : report.skipped) by_reason[tensor.reason].push_back(io::printable(tensor.name));
  std::vector<std::string> lines;
  for (const auto& [reason, names] : by_reason) {
    std::string line = fmt::format("{}: {}:", names.size(), reason);
    for (const auto& name : grouped_names(names)) line += " " + io::elide_middle(name, 70);
    lines.push_back(line);
  }
  return lines;
}

std::vector<std::string> problem_lines(const ScanReport& report) {
  std::vector<std::string> lines;
  const std::size_t disturbed = report.totals().disturbed;
  if (disturbed > 0) {
    lines.push_back(
        fmt::format("Other programs kept the CPU busy during {} of {} measurements: their times say little. "
                    "Run this again on a quiet machine.",
                    disturbed, report.totals().measured));
  }
  for (const auto& layer : report.layers) {
    if (!layer.not_measured.empty()) {
      lines.push_back(fmt::format("{} was not measured: {}", io::quote(layer.name), layer.not_measured));
    }
    for (const auto& measured : layer.measured) {
      if (!measured.wrong.empty()) {
        lines.push_back(fmt::format("{} gave a WRONG result for {} at block {}: {}", measured.kernel,
                                    io::quote(layer.name), measured.block, measured.wrong));
      }
    }
  }
  return lines;
}

constexpr const char* kBreakEvenTitle = "Density below which sparse beats dense here (blocks at random places)";

std::string counts(const ScanReport& report) {
  const ScanTotals totals = report.totals();
  return fmt::format("{}: {} matrices ({}), {} of {} tensors skipped (below)", io::printable(report.path),
                     report.layers.size(), io::bytes_text(totals.stored_bytes), report.skipped.size(),
                     report.layers.size() + report.skipped.size());
}

}  // namespace

std::string short_name(const std::string& name, std::size_t width) {
  std::string result = name;
  for (std::size_t begin = 0; display_width(result) > width;) {
    const std::size_t end = result.find('.', begin);
    if (end == std::string::npos) break;  // the last part stays whole
    const bool number = result.find_first_not_of("0123456789", begin) == end;
    if (!number && end - begin > 1) {
      const std::size_t first = begin + 1;
      // A name's first letter may take several bytes.
      std::size_t cut = first;
      while (cut < end && (static_cast<unsigned char>(result[cut]) & 0xC0) == 0x80) ++cut;
      result.erase(cut, end - cut);
    }
    begin = result.find('.', begin) + 1;
  }
  return io::elide_middle(result, width);
}

std::vector<std::string> grouped_names(const std::vector<std::string>& names) {
  std::vector<std::string> order;
  std::map<std::string, std::vector<std::string>> groups;
  for (const auto& name : names) {
    std::string pattern;
    for (std::size_t i = 0; i < name.size(); ++i) {
      const bool digit = name[i] >= '0' && name[i] <= '9';
      const bool part_begins = i == 0 || name[i - 1] == '.';  // "fc1" is not "fc2"
      if (digit && (part_begins || (!pattern.empty() && pattern.back() == '*'))) {
        if (pattern.empty() || pattern.back() != '*') pattern += '*';
      } else {
        pattern += name[i];
      }
    }
    if (groups[pattern].empty()) order.push_back(pattern);
    groups[pattern].push_back(name);
  }
  std::vector<std::string> result;
  for (const auto& pattern : order) {
    const auto& group = groups[pattern];
    result.push_back(group.size() == 1 ? group[0] : fmt::format("{} ({})", pattern, group.size()));
  }
  return result;
}

double LayerReport::zero_share(std::size_t size) const {
  return ratio(static_cast<double>(blocks[size] - nonzero[size]), static_cast<double>(blocks[size]));
}

const Measurement* LayerReport::best() const {
  const Measurement* best = nullptr;
  for (const auto& candidate : measured) {
    if (candidate.sparse && (best == nullptr || candidate.sparse->median < best->sparse->median)) best = &candidate;
  }
  return best;
}

ScanTotals ScanReport::totals() const {
  ScanTotals totals;
  totals.layers = layers.size();
  for (const auto& layer : layers) {
    for (std::size_t i = 0; i < kBlockSizes.size(); ++i) {
      totals.blocks[i] += layer.blocks[i];
      totals.nonzero[i] += layer.nonzero[i];
    }
    totals.stored_bytes += layer.stored_bytes;
    totals.dense_bytes += layer.dense_bytes;
    totals.pruned_bytes += layer.pruned_bytes;
    totals.kept += static_cast<double>(layer.kept_blocks);
    totals.total += static_cast<double>(layer.prunable_blocks);
    for (const auto& measured : layer.measured) totals.wrong += !measured.wrong.empty();
    const Measurement* best = layer.best();
    if (best == nullptr) continue;
    if (prune_to > 0) {
      totals.error_squared += best->error_squared;
      totals.norm_squared += best->norm_squared;
    }
    if (!best->dense) continue;
    ++totals.measured;
    totals.faster += best->verdict() == Verdict::yes;
    totals.slower += best->verdict() == Verdict::no;
    totals.unclear += best->verdict() == Verdict::unclear;
    totals.disturbed += best->disturbed;
    totals.sparse_ms += best->sparse->median;
    totals.dense_ms += best->dense->median;
  }
  return totals;
}

std::string scan_text(const ScanReport& report, std::size_t width, bool colour) {
  const ScanTotals totals = report.totals();
  std::string text = wrapped(counts(report), width);
  if (!report.layers.empty()) {
    text += wrapped(setting(report), width) + "\n" + fitted_table(report, width) + "\n" +
            wrapped(legend(report), width) + "\n";
    const std::string verdict = report.prune_to > 0 ? prune_verdict(report, totals) : scan_verdict(totals);
    text += painted(wrapped(verdict, width), Colour::bold, colour);
  } else {
    text += "No matrix to look at.\n";
  }
  for (const auto& line : problem_lines(report)) text += painted(wrapped(line, width, "  "), Colour::red, colour);
  if (!report.break_even.empty()) text += fmt::format("\n{}:\n{}", kBreakEvenTitle, break_even_table(report).text());
  if (!report.skipped.empty()) {
    text += "\nSkipped:\n";
    for (const auto& line : skipped_lines(report)) text += wrapped("  " + line, width, "    ");
  }
  return text;
}

std::string scan_markdown(const ScanReport& report) {
  const ScanTotals totals = report.totals();
  std::string text = counts(report) + "  \n";
  if (!report.layers.empty()) {
    text += setting(report) + "\n\n" + layer_table(report, 1000).markdown() + "\n" + legend(report) + "\n\n";
    text += "**" + (report.prune_to > 0 ? prune_verdict(report, totals) : scan_verdict(totals)) + "**\n";
  }
  for (const auto& line : problem_lines(report)) text += "\n" + line + "\n";
  if (!report.break_even.empty())
    text += fmt::format("\n{}:\n\n{}", kBreakEvenTitle, break_even_table(report).markdown());
  if (!report.skipped.empty()) text += "\nSkipped:\n\n";
  for (const auto& line : skipped_lines(report)) text += "- " + line + "\n";
  return text;
}

}  // namespace triage::verdict
