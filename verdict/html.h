// Small pieces of HTML and SVG, escaped.
#pragma once

#include <string>
#include <vector>

namespace triage::verdict {

/// &, <, > and quotes as entities.
std::string html_escaped(const std::string& text);

/// <table> with a header row; cells are escaped. `classes[row][column]` becomes the cell's class where not empty.
std::string html_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows,
                       const std::vector<std::vector<std::string>>& classes = {});

/// A part that opens when its title is touched, without a script.
std::string html_details(const std::string& title, const std::string& content);

std::string html_list(const std::vector<std::string>& items);

/// One point of a roofline: operations per byte, TFLOP/s.
struct RooflinePoint {
  double intensity = 0, tflops = 0;
  std::string label;
};

/// Log-log chart: a roof that rises with `gbytes_per_s` to `peak_tflops`, a second, dashed ceiling if `second_tflops` is
/// positive, and the points, each with its label as tooltip.
std::string svg_roofline(const std::vector<RooflinePoint>& points, double peak_tflops, const std::string& peak_name,
                         double second_tflops, const std::string& second_name, double gbytes_per_s);

struct Bar {
  std::string label;
  double value = 0;
  bool ours = false;
};
struct BarGroup {
  std::string title;
  std::vector<Bar> bars;
};
/// Horizontal bars, group under group, one scale for all; `unit` follows each number, `label` is for who cannot see it.
/// `mark` > 0: a line at that value, with `mark_name` above it.
std::string svg_bars(const std::vector<BarGroup>& groups, const std::string& unit, const std::string& label,
                     double mark = 0, const std::string& mark_name = "");

/// Times over density (lines) with the dense time as a horizontal line.
struct CrossoverChart {
  std::string title;
  std::vector<std::pair<double, double>> points;  ///< density, ms
  double dense_ms = 0;
  double crossing = 0;  ///< 0: none to mark
};
std::string svg_crossover(const CrossoverChart& chart);

/// A whole page: no scripts, no other files, readable on a phone, in light and dark.
std::string html_page(const std::string& title, const std::string& body);

}  // namespace triage::verdict
