#include "verdict/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace triage::verdict {
namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --faint: #6b7280; --line: #d8dce2; --ours: #1f6feb;
  --peer: #9aa4b2; --good: #1a7f37; --bad: #c62828; --warn: #9a6700; --band: #f4f6f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #14171b; --faint: #9aa4b2; --line: #343a42;
  --ours: #58a6ff; --peer: #6b7280; --good: #4ac26b; --bad: #ff7b72; --warn: #d4a72c; --band: #1c2127; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 70rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } h3 { font-size: 1rem; }
h1, h2, h3, p, li, summary { overflow-wrap: anywhere; }
details { border: 1px solid var(--line); border-radius: 0.4rem; padding: 0.3rem 0.8rem; margin: 0.4rem 0; }
summary { cursor: pointer; padding: 0.3rem 0; }
.lead { font-size: 1.1rem; font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
th { position: sticky; top: 0; background: var(--paper); }
tr:nth-child(even) td { background: var(--band); }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; } .warn { color: var(--warn); }
.faint { color: var(--faint); }
svg { width: 100%; height: auto; max-width: 60rem; display: block; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: 1rem; margin-top: 1rem; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg .faint { fill: var(--faint); }
svg .axis { stroke: var(--line); fill: none; } svg .roof { stroke: var(--ink); fill: none; stroke-width: 1.5; }
svg .second { stroke: var(--faint); fill: none; stroke-dasharray: 5 4; } svg .ours { fill: var(--ours); }
svg .peer { fill: var(--peer); } svg .curve { stroke: var(--ours); fill: none; stroke-width: 2; }
)";

/// Maps a range onto pixels, linearly or by logarithm.
class Scale {
 public:
  Scale(double low, double high, double from, double to, bool logarithmic)
      : low_(value(low, logarithmic)), high_(value(high, logarithmic)), from_(from), to_(to), log_(logarithmic) {}
  double operator()(double x) const { return from_ + (value(x, log_) - low_) / (high_ - low_) * (to_ - from_); }

 private:
  static double value(double x, bool logarithmic) { return logarithmic ? std::log10(std::max(x, 1e-12)) : x; }
  double low_, high_, from_, to_;
  bool log_;
};

std::string svg_text(double x, double y, const std::string& text, const char* anchor = "start", const char* css = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" class=\"{}\">{}</text>\n", x, y, anchor, css,
                     html_escaped(text));
}

std::string svg_line(double x1, double y1, double x2, double y2, const char* css) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2, y2, css);
}

std::string short_number(double value) { return value >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value); }

bool is_number(const std::string& cell) {
  return cell == "-" || (!cell.empty() && cell.find_first_not_of("0123456789.e+-x%") == std::string::npos);
}

}  // namespace

std::string html_escaped(const std::string& text) {
  std::string escaped;
  for (char c : text) {
    switch (c) {
      case '&': escaped += "&amp;"; break;
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      case '"': escaped += "&quot;"; break;
      default: escaped += c;
    }
  }
  return escaped;
}

std::string html_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows,
                       const std::vector<std::vector<std::string>>& classes) {
  std::string html = "<div class=\"scroll\"><table>\n<thead><tr>";
  for (const std::string& cell : header) html += "<th>" + html_escaped(cell) + "</th>";
  html += "</tr></thead>\n<tbody>\n";
  for (std::size_t r = 0; r < rows.size(); ++r) {
    html += "<tr>";
    for (std::size_t c = 0; c < rows[r].size(); ++c) {
      std::string css = is_number(rows[r][c]) ? "number" : "";
      if (r < classes.size() && c < classes[r].size() && !classes[r][c].empty()) {
        css += (css.empty() ? "" : " ") + classes[r][c];
      }
      html += css.empty() ? "<td>" : "<td class=\"" + css + "\">";
      html += html_escaped(rows[r][c]) + "</td>";
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string html_details(const std::string& title, const std::string& content) {
  return "<details>\n<summary>" + html_escaped(title) + "</summary>\n" + content + "</details>\n";
}

std::string html_list(const std::vector<std::string>& items) {
  std::string html = "<ul>\n";
  for (const std::string& item : items) html += "<li>" + html_escaped(item) + "</li>\n";
  return html + "</ul>\n";
}

std::string svg_roofline(const std::vector<RooflinePoint>& points, double peak_tflops, const std::string& peak_name,
                         double second_tflops, const std::string& second_name, double gbytes_per_s) {
  if (points.empty() || peak_tflops <= 0 || gbytes_per_s <= 0) return "";
  double low_x = points[0].intensity, high_x = low_x, low_y = peak_tflops, high_y = peak_tflops;
  for (const RooflinePoint& point : points) {
    low_x = std::min(low_x, point.intensity);
    high_x = std::max(high_x, point.intensity);
    low_y = std::min(low_y, point.tflops);
    high_y = std::max(high_y, point.tflops);
  }
  const double ridge = peak_tflops / (gbytes_per_s * 1e-3);
  low_x = std::min(low_x, ridge) / 2;
  high_x = std::max(high_x, ridge) * 2;
  low_y = std::max(low_y / 2, 1e-6);
  high_y *= 1.5;
  constexpr double kWidth = 640, kHeight = 360, kLeft = 56, kRight = 12, kTop = 12, kBottom = 40;
  const Scale x(low_x, high_x, kLeft, kWidth - kRight, true), y(low_y, high_y, kHeight - kBottom, kTop, true);
  std::string svg = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Roofline\">\n", kWidth, kHeight);
  svg += svg_line(kLeft, kHeight - kBottom, kWidth - kRight, kHeight - kBottom, "axis");
  svg += svg_line(kLeft, kTop, kLeft, kHeight - kBottom, "axis");
  for (double decade = std::pow(10, std::ceil(std::log10(low_x))); decade < high_x; decade *= 10) {
    svg += svg_text(x(decade), kHeight - kBottom + 16, short_number(decade), "middle", "faint");
    svg += svg_line(x(decade), kTop, x(decade), kHeight - kBottom, "axis");
  }
  for (double decade = std::pow(10, std::ceil(std::log10(low_y))); decade < high_y; decade *= 10) {
    svg += svg_text(kLeft - 6, y(decade) + 4, short_number(decade), "end", "faint");
    svg += svg_line(kLeft, y(decade), kWidth - kRight, y(decade), "axis");
  }
  svg += svg_text((kLeft + kWidth) / 2, kHeight - 6, "operations per byte", "middle", "faint");
  svg += svg_text(kLeft + 4, kTop + 10, "TFLOP/s", "start", "faint");
  const double start = std::max(low_x, low_y / (gbytes_per_s * 1e-3));
  svg += fmt::format("<polyline class=\"roof\" points=\"{:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f}\"/>\n", x(start),
                     y(start * gbytes_per_s * 1e-3), x(ridge), y(peak_tflops), x(high_x), y(peak_tflops));
  svg += svg_text(kWidth - kRight, y(peak_tflops) - 5, fmt::format("{} {}", peak_name, short_number(peak_tflops)), "end");
  if (second_tflops > 0) {
    svg += svg_line(x(second_tflops / (gbytes_per_s * 1e-3)), y(second_tflops), kWidth - kRight, y(second_tflops), "second");
    svg += svg_text(kWidth - kRight, y(second_tflops) + 14, fmt::format("{} {}", second_name, short_number(second_tflops)),
                    "end", "faint");
  }
  for (const RooflinePoint& point : points) {
    svg += fmt::format("<circle class=\"ours\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill-opacity=\"0.7\"><title>{}: {} "
                       "TFLOP/s</title></circle>\n",
                       x(point.intensity), y(point.tflops), html_escaped(point.label), short_number(point.tflops));
  }
  return svg + "</svg>\n";
}

std::string svg_bars(const std::vector<BarGroup>& groups, const std::string& unit, const std::string& label, double mark,
                     const std::string& mark_name) {
  double most = mark;
  int lines = 0;
  for (const BarGroup& group : groups) {
    lines += 1 + static_cast<int>(group.bars.size());
    for (const Bar& bar : group.bars) most = std::max(most, bar.value);
  }
  if (most <= 0 || lines == 0) return "";
  constexpr double kWidth = 640, kLine = 18, kLabel = 170, kNumber = 80;
  const Scale length(0, most, 0, kWidth - kLabel - kNumber, false);
  const double top = mark > 0 ? kLine : 0, height = kLine * lines + 8 + top;
  std::string svg = fmt::format("<svg viewBox=\"0 0 {} {:.0f}\" role=\"img\" aria-label=\"{}\">\n", kWidth, height,
                                html_escaped(label));
  if (mark > 0) {
    svg += svg_line(kLabel + length(mark), top, kLabel + length(mark), height, "second");
    svg += svg_text(kLabel + length(mark), top - 4, mark_name, "middle", "faint");
  }
  double y = 4 + top;
  for (const BarGroup& group : groups) {
    y += kLine;
    svg += svg_text(0, y - 4, group.title);
    for (const Bar& bar : group.bars) {
      y += kLine;
      svg += svg_text(kLabel - 6, y - 5, bar.label, "end", bar.ours ? "" : "faint");
      svg += fmt::format("<rect class=\"{}\" x=\"{}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{}\"/>\n",
                         bar.ours ? "ours" : "peer", kLabel, y - kLine + 3, std::max(length(bar.value), 0.5), kLine - 5);
      svg += svg_text(kLabel + length(bar.value) + 5, y - 5, short_number(bar.value) + " " + unit);
    }
  }
  return svg + "</svg>\n";
}

std::string svg_crossover(const CrossoverChart& chart) {
  if (chart.points.empty()) return "";
  double most = chart.dense_ms;
  for (const auto& point : chart.points) most = std::max(most, point.second);
  if (most <= 0) return "";
  constexpr double kWidth = 320, kHeight = 200, kLeft = 44, kRight = 10, kTop = 24, kBottom = 30;
  const Scale x(0, 1, kLeft, kWidth - kRight, false), y(0, most * 1.1, kHeight - kBottom, kTop, false);
  std::string svg = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n", kWidth, kHeight,
                                html_escaped(chart.title));
  svg += svg_text(kLeft, 14, chart.title);
  svg += svg_line(kLeft, kHeight - kBottom, kWidth - kRight, kHeight - kBottom, "axis");
  svg += svg_line(kLeft, kTop, kLeft, kHeight - kBottom, "axis");
  for (double density : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    svg += svg_text(x(density), kHeight - kBottom + 14, short_number(density), "middle", "faint");
  }
  svg += svg_text(kLeft - 4, y(most) + 4, short_number(most) + " ms", "end", "faint");
  svg += svg_line(kLeft, y(chart.dense_ms), kWidth - kRight, y(chart.dense_ms), "second");
  svg += svg_text(kWidth - kRight, y(chart.dense_ms) - 4, "dense", "end", "faint");
  std::string path;
  for (const auto& [density, ms] : chart.points) path += fmt::format("{:.1f},{:.1f} ", x(density), y(ms));
  svg += "<polyline class=\"curve\" points=\"" + path + "\"/>\n";
  if (chart.crossing > 0) {
    svg += fmt::format("<circle class=\"ours\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\"><title>density {:.2f}</title></circle>\n",
                       x(chart.crossing), y(chart.dense_ms), chart.crossing);
  }
  return svg + "</svg>\n";
}

std::string html_page(const std::string& title, const std::string& body) {
  return fmt::format("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" "
                     "content=\"width=device-width, initial-scale=1\"/>\n<title>{}</title>\n<style>{}</style>\n</head>\n"
                     "<body>\n{}</body>\n</html>\n",
                     html_escaped(title), kStyle, body);
}

}  // namespace triage::verdict
