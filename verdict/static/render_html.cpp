#include <fmt/format.h>

#include "verdict/static/render.h"

namespace triage::static_triage {
namespace {

std::string escaped(const std::string& text) {
  std::string result;
  for (char c : text) {
    switch (c) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '"': result += "&quot;"; break;
      default: result += c;
    }
  }
  return result;
}

// `code` in the sentences becomes <code>.
std::string prose(const std::string& text) {
  std::string result;
  bool code = false;
  for (char c : escaped(text)) {
    if (c != '`') {
      result += c;
      continue;
    }
    result += code ? "</code>" : "<code>";
    code = !code;
  }
  return code ? result + "</code>" : result;
}

const char* cell_class(const Cell& cell) {
  if (cell.state == CellState::compiles) return "good";
  if (cell.state == CellState::spills) return "fair";
  return cell.fails() || cell.state == CellState::no_answer ? "bad" : "none";
}

std::string cell_html(const Cell& cell) {
  return fmt::format("<td class=\"{}\">{}</td>", cell_class(cell), prose(cell_text(cell)));
}

std::string cause_html(const Cause& cause) {
  const char* word = cause.severity == Severity::fails ? "" : cause.severity == Severity::warns ? "Warning: " : "Note: ";
  std::string result = fmt::format("<li><b>{}{}</b> <span class=\"scope\">{}{}</span>", word, prose(cause.cell),
                                   escaped(scope_text(cause)), cause.unreached ? ", read in the source only" : "");
  if (!cause.where.file.empty()) {
    result += "<div>" + escaped(place(cause.where));
    for (std::size_t i = 0; i < cause.also.size(); ++i) result += (i ? ", " : ", also ") + escaped(place(cause.also[i]));
    for (const SourceLocation& via : cause.via) result += ", from " + escaped(place(via));
    result += "</div>";
  }
  if (!cause.source_line.empty()) result += "<pre>" + escaped(cause.source_line) + "</pre>";
  result += "<dl>";
  if (!cause.kernels.empty()) result += "<dt>Kernel</dt><dd>" + escaped(join(cause.kernels, ", ")) + "</dd>";
  result += "<dt>Found</dt><dd>" + prose(cause.found) + "</dd><dt>Why</dt><dd>" + prose(cause.why) +
            "</dd><dt>Fix</dt><dd>" + prose(cause.fix) + "</dd>";
  if (!cause.reference.empty()) result += "<dt>See</dt><dd>" + escaped(cause.reference) + "</dd>";
  return result + "</dl></li>\n";
}

constexpr const char* kStyle = R"(
:root{color-scheme:light dark;--line:#8884;--good:#1a7f37;--fair:#9a6700;--bad:#cf222e}
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:0 auto;padding:1rem}
h1{font-size:1.6rem}h2{margin-top:2rem;border-bottom:1px solid var(--line)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem}
th,td{border:1px solid var(--line);padding:.3rem .6rem;text-align:left;vertical-align:top}
td.good{color:var(--good)}td.fair{color:var(--fair)}td.bad{color:var(--bad)}td.none{opacity:.6}
tr.file th{font-weight:700}th.kernel{font-weight:400;padding-left:1.5rem}
pre{overflow-x:auto;background:#8882;padding:.4rem .6rem;margin:.3rem 0}code{overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem .8rem;margin:.3rem 0 1rem}dd{margin:0;overflow-wrap:anywhere}
dt,.scope{opacity:.7}
)";

std::string matrix_html(const Verdict& verdict) {
  std::string result = "<div class=\"wide\"><table><thead><tr><th>file, kernel</th>";
  for (const Target& target : verdict.targets) result += "<th>" + escaped(describe(target)) + "</th>";
  result += "</tr></thead><tbody>\n";
  for (const FileVerdict& file : verdict.files) {
    result += "<tr class=\"file\"><th>" + escaped(file.path) + "</th>";
    for (const Cell& cell : file.cells) result += cell_html(cell);
    result += "</tr>\n";
    for (const KernelReportRow& row : file.kernels) {
      result += "<tr><th class=\"kernel\"><code>" + escaped(row.name) + "</code></th>";
      for (const KernelOnTarget& on : row.targets) result += cell_html(on.cell);
      result += "</tr>\n";
    }
  }
  return result + "</tbody></table></div>\n";
}

std::string usage_html(const Verdict& verdict) {
  std::string result;
  for (const FileVerdict& file : verdict.files) {
    for (const KernelReportRow& row : file.kernels) {
      std::string rows;
      for (std::size_t t = 0; t < verdict.targets.size(); ++t) {
        if (!row.targets[t].measured) continue;
        rows += "<tr>";
        for (const std::string& cell : usage_cells(verdict.targets[t], row.targets[t])) rows += "<td>" + escaped(cell) + "</td>";
        rows += "</tr>\n";
      }
      if (rows.empty()) continue;
      result += "<h3><code>" + escaped(row.name) + "</code></h3><div>" + escaped(place(row.where)) +
                "</div><div class=\"wide\"><table><thead><tr>";
      for (const std::string& name : usage_header()) result += "<th>" + escaped(name) + "</th>";
      result += "</tr></thead><tbody>\n" + rows + "</tbody></table></div>\n";
    }
    for (const std::string& note : file.notes) result += "<p>" + prose(file.path + ": " + note) + "</p>\n";
  }
  return result;
}

}  // namespace

std::string render_html(const Verdict& verdict) {
  std::string result =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>Static triage</title><style>";
  result += kStyle;
  result += "</style></head><body>\n<h1>Static triage</h1>\n<h2>Executive summary</h2>\n<p>" + prose(headline(verdict)) +
            "</p>\n<ul>\n";
  for (const FileVerdict& file : verdict.files) result += "<li>" + prose(file.summary) + "</li>\n";
  for (const std::string& target : verdict.unknown_targets) {
    result += fmt::format("<li>nvcc {} does not know the architecture {}.</li>\n", escaped(verdict.nvcc_version), target);
  }
  result += "</ul>\n<h2>Architecture support matrix</h2>\n" + matrix_html(verdict);

  std::string causes, paths;
  for (const FileVerdict& file : verdict.files) {
    if (!file.causes.empty()) {
      causes += "<h3>" + escaped(file.path) + "</h3>\n<ol>\n";
      for (const Cause& cause : file.causes) causes += cause_html(cause);
      causes += "</ol>\n";
    }
    if (!file.path_forward.empty()) paths += "<h3>" + escaped(file.path) + "</h3>\n";
    for (const PathForward& path : file.path_forward) {
      paths += "<p><b>" + path.target + "</b></p><ul>\n";
      for (const std::string& step : path.steps) paths += "<li>" + prose(step) + "</li>\n";
      if (!path.examples.empty()) paths += "<li>Triage already runs there: " + escaped(join(path.examples)) + "</li>\n";
      paths += "</ul>\n";
    }
  }
  if (!causes.empty()) result += "<h2>Root causes</h2>\n" + causes;
  if (!paths.empty()) result += "<h2>Path forward</h2>\n" + paths;
  const std::string usage = usage_html(verdict);
  if (!usage.empty()) result += "<h2>Registers, memory and occupancy</h2>\n" + usage;
  return result + "</body></html>\n";
}

}  // namespace triage::static_triage
