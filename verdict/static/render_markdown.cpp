#include <fmt/format.h>

#include <algorithm>

#include "verdict/static/render.h"
#include "verdict/terminal.h"

namespace triage::static_triage {
namespace {

// Names and messages come from sources: nothing in them may end a cell or open a tag.
std::string escaped(const std::string& text) {
  std::string result;
  bool code = false;
  for (char c : text) {
    if (c == '`') code = !code;
    if (c == '|') result += "\\|";
    else if (c == '\n' || c == '\r') result += ' ';
    else if (!code && c == '<') result += "&lt;";
    else if (!code && (c == '*' || c == '_')) result += std::string("\\") + c;
    else result += c;
  }
  return code ? result + "`" : result;
}

// A code span that holds back quotes itself needs longer ones.
std::string code_span(const std::string& text) {
  if (text.empty()) return "";
  const bool ticks = text.find('`') != std::string::npos;
  std::string flat = text;
  for (char& c : flat) c = c == '\n' || c == '\r' ? ' ' : c;
  return ticks ? "`` " + flat + " ``" : "`" + flat + "`";
}

std::string cause_markdown(const Cause& cause, std::size_t number) {
  const char* word = cause.severity == Severity::fails ? "" : cause.severity == Severity::warns ? "Warning: " : "Note: ";
  std::string result = fmt::format("{}. **{}{}**, {}", number, word, escaped(cause.cell), escaped(scope_text(cause)));
  if (cause.unreached) result += " (read in the source: the compiler did not get this far)";
  result += "\n";
  if (!cause.where.file.empty()) {
    result += fmt::format("   - At {}", code_span(place(cause.where)));
    std::vector<std::string> lines;
    for (const SourceLocation& also : cause.also) lines.push_back(code_span(place(also)));
    if (!lines.empty()) result += ", also " + join(lines);
    for (const SourceLocation& via : cause.via) result += ", from " + code_span(place(via));
    if (!cause.source_line.empty()) result += ": " + code_span(cause.source_line);
    result += "\n";
  }
  if (!cause.kernels.empty()) {
    std::vector<std::string> names;
    for (const std::string& kernel : cause.kernels) names.push_back(code_span(kernel));
    result += "   - Kernel " + join(names) + "\n";
  }
  result += "   - Found: " + escaped(cause.found) + "\n   - Why: " + escaped(cause.why) + "\n   - Fix: " +
            escaped(cause.fix) + "\n";
  if (!cause.reference.empty()) result += "   - See: " + escaped(cause.reference) + "\n";
  return result;
}

}  // namespace

std::string render_markdown(const Verdict& verdict) {
  std::string result = "# Static triage\n\n## Executive summary\n\n" + escaped(headline(verdict)) + "\n\n";
  for (const FileVerdict& file : verdict.files) result += "- " + escaped(file.summary) + "\n";
  for (const std::string& target : verdict.unknown_targets) {
    result += fmt::format("- nvcc {} does not know the architecture {}.\n", verdict.nvcc_version, target);
  }

  std::vector<std::string> header = {"file, kernel"};
  for (const Target& target : verdict.targets) header.push_back(describe(target));
  verdict::TextTable matrix(header);
  for (const FileVerdict& file : verdict.files) {
    std::vector<std::string> cells = {"**" + escaped(file.path) + "**"};
    for (const Cell& cell : file.cells) cells.push_back(escaped(cell_text(cell)));
    matrix.add(cells);
    for (const KernelReportRow& row : file.kernels) {
      cells = {code_span(row.name)};
      for (const KernelOnTarget& on : row.targets) cells.push_back(escaped(cell_text(on.cell)));
      matrix.add(cells);
    }
  }
  result += "\n## Architecture support matrix\n\n" + matrix.markdown();

  const auto any = [&](const auto& list_of) {
    return std::any_of(verdict.files.begin(), verdict.files.end(), [&](const FileVerdict& f) { return !list_of(f).empty(); });
  };
  if (any([](const FileVerdict& file) -> const auto& { return file.causes; })) result += "\n## Root causes\n";
  for (const FileVerdict& file : verdict.files) {
    if (file.causes.empty()) continue;
    result += "\n### " + escaped(file.path) + "\n\n";
    for (std::size_t i = 0; i < file.causes.size(); ++i) result += cause_markdown(file.causes[i], i + 1);
  }
  if (any([](const FileVerdict& file) -> const auto& { return file.path_forward; })) result += "\n## Path forward\n";
  for (const FileVerdict& file : verdict.files) {
    if (file.path_forward.empty()) continue;
    result += "\n### " + escaped(file.path) + "\n\n";
    for (const PathForward& path : file.path_forward) {
      result += "- **" + path.target + "**\n";
      for (const std::string& step : path.steps) result += "  - " + escaped(step) + "\n";
      if (!path.examples.empty()) result += "  - Triage already runs there: " + escaped(join(path.examples)) + "\n";
    }
  }
  bool heading = false;
  for (const FileVerdict& file : verdict.files) {
    for (const KernelReportRow& row : file.kernels) {
      verdict::TextTable table(usage_header());
      for (std::size_t t = 0; t < verdict.targets.size(); ++t) {
        if (row.targets[t].measured) table.add(usage_cells(verdict.targets[t], row.targets[t]));
      }
      if (table.empty()) continue;
      if (!heading) result += "\n## Registers, memory and occupancy\n";
      heading = true;
      result += "\n" + code_span(row.name) + " (" + code_span(place(row.where)) + ")\n\n" + table.markdown();
    }
    for (const std::string& note : file.notes) result += "\n" + escaped(file.path + ": " + note) + "\n";
  }
  return result;
}

}  // namespace triage::static_triage
