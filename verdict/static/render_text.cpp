#include <fmt/format.h>

#include <algorithm>

#include "verdict/static/render.h"
#include "verdict/terminal.h"

namespace triage::static_triage {
namespace {

using verdict::Colour;
using verdict::painted;
using verdict::TextTable;

constexpr std::size_t kTextWidth = 118;

// Breaks at blanks; further lines are indented.
std::string wrapped(const std::string& text, const std::string& first, const std::string& rest) {
  std::string result, line = first;
  bool empty = true;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (!empty && verdict::display_width(line) + 1 + verdict::display_width(word) > kTextWidth) {
      result += line + "\n";
      line = rest;
      empty = true;
    }
    line += (empty ? "" : " ") + word;
    empty = false;
    at = end + 1;
  }
  return result + line + "\n";
}

Colour colour_of(const Cell& cell) {
  if (cell.state == CellState::compiles) return Colour::green;
  if (cell.state == CellState::spills) return Colour::yellow;
  return cell.fails() || cell.state == CellState::no_answer ? Colour::red : Colour::dim;
}

std::vector<std::string> row_cells(const Verdict& verdict, const FileVerdict& file, const KernelReportRow* kernel) {
  std::vector<std::string> cells = {kernel ? "  " + kernel->name : file.path};
  for (std::size_t t = 0; t < verdict.targets.size(); ++t) {
    cells.push_back(cell_text(kernel ? kernel->targets[t].cell : file.cells[t]));
  }
  return cells;
}

// One row with the targets of the same cell on one line: for a matrix that is wider than a terminal.
std::string grouped_row(const Verdict& verdict, const FileVerdict& file, const KernelReportRow* kernel, bool colour) {
  std::string result = painted(kernel ? "  " + kernel->name : file.path, Colour::bold, colour) + "\n";
  std::vector<std::pair<std::string, std::vector<std::string>>> groups;
  std::vector<Colour> colours;
  for (std::size_t t = 0; t < verdict.targets.size(); ++t) {
    const Cell& cell = kernel ? kernel->targets[t].cell : file.cells[t];
    const std::string words = cell_text(cell);
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == words; });
    if (group == groups.end()) {
      group = groups.insert(groups.end(), {words, {}});
      colours.push_back(colour_of(cell));
    }
    group->second.push_back(verdict.targets[t].name());
  }
  for (std::size_t i = 0; i < groups.size(); ++i) {
    result += fmt::format("    {:<30} {}\n", join(groups[i].second, ", "), painted(groups[i].first, colours[i], colour));
  }
  return result;
}

std::string matrix_text(const Verdict& verdict, bool colour) {
  std::vector<std::string> header = {"file, kernel"};
  for (const Target& target : verdict.targets) header.push_back(target.name());
  TextTable table(header);
  std::string grouped;
  for (const FileVerdict& file : verdict.files) {
    table.add(row_cells(verdict, file, nullptr));
    grouped += grouped_row(verdict, file, nullptr, colour);
    for (const KernelReportRow& row : file.kernels) {
      table.add(row_cells(verdict, file, &row));
      grouped += grouped_row(verdict, file, &row, colour);
    }
  }
  const std::string text = table.text();
  const bool fits = verdict::display_width(text.substr(0, text.find('\n'))) <= kTextWidth;
  return (fits ? text : grouped) + "\n";
}

std::string cause_text(const Cause& cause, std::size_t number, bool colour) {
  const char* word = cause.severity == Severity::fails ? "" : cause.severity == Severity::warns ? "warning: " : "note: ";
  const Colour paint = cause.severity == Severity::fails ? Colour::red : Colour::yellow;
  std::string result = fmt::format("{}. {}", number, painted(word + cause.cell, paint, colour));
  result += fmt::format("  [{}]", scope_text(cause));
  if (cause.unreached) result += "  (read in the source: the compiler did not get this far)";
  result += "\n";
  if (!cause.where.file.empty()) {
    result += "   at     " + place(cause.where);
    if (!cause.also.empty()) {
      std::vector<std::string> lines;
      for (const SourceLocation& also : cause.also) {
        lines.push_back(also.file == cause.where.file ? std::to_string(also.line) : place(also));
      }
      result += ", also " + join(lines);
    }
    for (const SourceLocation& via : cause.via) result += ", from " + place(via);
    result += "\n";
  }
  if (!cause.source_line.empty()) result += "          " + painted(cause.source_line, Colour::dim, colour) + "\n";
  if (!cause.kernels.empty()) result += wrapped(join(cause.kernels, ", "), "   kernel ", "          ");
  result += wrapped(cause.found, "   found  ", "          ");
  result += wrapped(cause.why, "   why    ", "          ");
  result += wrapped(cause.fix, "   fix    ", "          ");
  if (!cause.reference.empty()) result += "   see    " + cause.reference + "\n";
  return result + "\n";
}

std::string heading(const std::string& text, bool colour) { return painted(text, Colour::bold, colour) + "\n\n"; }

}  // namespace

std::string headline(const Verdict& verdict) {
  std::size_t clean = 0;
  for (const FileVerdict& file : verdict.files) {
    clean += std::all_of(file.cells.begin(), file.cells.end(), [](const Cell& cell) {
      return cell.runs() || cell.state == CellState::unknown_target;
    });
  }
  std::vector<std::string> names;
  for (const Target& target : verdict.targets) {
    const auto& unknown = verdict.unknown_targets;
    if (std::find(unknown.begin(), unknown.end(), target.name()) == unknown.end()) names.push_back(target.name());
  }
  if (names.empty()) return fmt::format("nvcc {} knows none of the architectures asked for.", verdict.nvcc_version);
  return fmt::format("{} of {} {} for {} (nvcc {}). Compiled, not run: what builds can still be wrong or slow.",
                     clean, verdict.files.size(), verdict.files.size() == 1 ? "file builds" : "files build", join(names),
                     verdict.nvcc_version);
}

std::string scope_text(const Cause& cause) {
  if (cause.everywhere) return "on every architecture asked for";
  return "on " + join(cause.targets);
}

std::vector<std::string> usage_header() {
  return {"target", "registers", "shared (static + dynamic)", "spills", "stack", "occupancy"};
}

std::vector<std::string> usage_cells(const Target& target, const KernelOnTarget& on) {
  std::string shared = fmt::format("{} + {} bytes", on.static_shared,
                                   on.dynamic_known ? std::to_string(on.dynamic_shared) : "?");
  std::string occupancy = "-";
  if (on.occupancy) {
    occupancy = fmt::format("{}% ({} x {} threads{}; limit: {})", on.occupancy->percent, on.occupancy->blocks,
                            on.occupancy->threads, on.occupancy->assumed ? ", assumed" : "", on.occupancy->limit);
  }
  return {target.name(), std::to_string(on.registers), shared,
          on.spill_stores + on.spill_loads == 0
              ? "none"
              : fmt::format("{} stored, {} loaded bytes", on.spill_stores, on.spill_loads),
          fmt::format("{} bytes", on.stack), occupancy};
}

std::string render_text(const Verdict& verdict, bool colour) {
  std::string result = heading("Executive summary", colour);
  result += wrapped(headline(verdict), "", "");
  for (const FileVerdict& file : verdict.files) result += wrapped(file.summary, "- ", "  ");
  for (const std::string& target : verdict.unknown_targets) {
    result += fmt::format("nvcc {} does not know the architecture {}: its column says nothing of the sources.\n",
                          verdict.nvcc_version, target);
  }
  result += "\n" + heading("Architecture support matrix", colour) + matrix_text(verdict, colour);

  bool any = false;
  for (const FileVerdict& file : verdict.files) any = any || !file.causes.empty();
  if (any) result += heading("Root causes", colour);
  for (const FileVerdict& file : verdict.files) {
    if (file.causes.empty()) continue;
    result += painted(file.path, Colour::bold, colour) + "\n";
    for (std::size_t i = 0; i < file.causes.size(); ++i) result += cause_text(file.causes[i], i + 1, colour);
  }
  any = false;
  for (const FileVerdict& file : verdict.files) any = any || !file.path_forward.empty();
  if (any) result += heading("Path forward", colour);
  for (const FileVerdict& file : verdict.files) {
    if (file.path_forward.empty()) continue;
    result += painted(file.path, Colour::bold, colour) + "\n";
    // Targets with the same way stand together.
    for (std::size_t i = 0; i < file.path_forward.size(); ++i) {
      const PathForward& path = file.path_forward[i];
      std::vector<std::string> names;
      bool first = true;
      for (std::size_t j = 0; j < file.path_forward.size(); ++j) {
        if (file.path_forward[j].steps != path.steps || file.path_forward[j].examples != path.examples) continue;
        first = first && j >= i;
        names.push_back(file.path_forward[j].target);
      }
      if (!first) continue;
      result += fmt::format("  {}\n", join(names));
      for (const std::string& step : path.steps) result += wrapped(step, "  - ", "    ");
      if (!path.examples.empty()) {
        result += wrapped("Triage already runs there, to read or to call: " + join(path.examples), "  - ", "    ");
      }
    }
    result += "\n";
  }
  any = false;
  for (const FileVerdict& file : verdict.files) {
    for (const KernelReportRow& row : file.kernels) {
      std::vector<std::string> header = usage_header();
      TextTable table(header);
      for (std::size_t t = 0; t < verdict.targets.size(); ++t) {
        if (row.targets[t].measured) table.add(usage_cells(verdict.targets[t], row.targets[t]));
      }
      if (table.empty()) continue;
      if (!any) result += heading("Registers, memory and occupancy (the compiler's report)", colour);
      any = true;
      result += fmt::format("{} {}\n{}\n", place(row.where), painted(row.name, Colour::bold, colour), table.text());
    }
    for (const std::string& note : file.notes) result += wrapped(file.path + ": " + note, "", "  ");
  }
  return result;
}

}  // namespace triage::static_triage
