#include "bench/patterns.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>

namespace triage::bench {
namespace {

// std::mt19937_64 gives the same numbers everywhere; the standard distributions do not, hence these two.
using Random = std::mt19937_64;

double uniform01(Random& random) { return static_cast<double>(random() >> 11) * 0x1.0p-53; }

template <class T>
void shuffle(std::vector<T>& items, Random& random) {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random() % i]);
}

/// Appends a row with `count` blocks at random places among `candidates`, which it reorders.
void append_random_row(HostPattern& pattern, std::vector<std::int32_t>& candidates, std::int64_t count, Random& random) {
  count = std::clamp<std::int64_t>(count, 0, static_cast<std::int64_t>(candidates.size()));
  for (std::int64_t i = 0; i < count; ++i) {
    std::swap(candidates[i], candidates[i + static_cast<std::int64_t>(random() % (candidates.size() - i))]);
  }
  const std::size_t begin = pattern.col.size();
  pattern.col.insert(pattern.col.end(), candidates.begin(), candidates.begin() + count);
  std::sort(pattern.col.begin() + static_cast<std::ptrdiff_t>(begin), pattern.col.end());
  pattern.crow.push_back(static_cast<std::int32_t>(pattern.col.size()));
}

void append_range(HostPattern& pattern, std::int64_t begin, std::int64_t end) {
  for (std::int64_t c = begin; c < end; ++c) pattern.col.push_back(static_cast<std::int32_t>(c));
  pattern.crow.push_back(static_cast<std::int32_t>(pattern.col.size()));
}

std::vector<std::int32_t> all_columns(const HostPattern& pattern) {
  std::vector<std::int32_t> columns(static_cast<std::size_t>(pattern.block_cols));
  std::iota(columns.begin(), columns.end(), 0);
  return columns;
}

void fill_uniform(HostPattern& pattern, double density, Random& random, const std::vector<bool>& row_open,
                  const std::vector<bool>& column_open) {
  for (std::int64_t r = 0; r < pattern.block_rows; ++r) {
    for (std::int64_t c = 0; c < pattern.block_cols; ++c) {
      if (row_open[r] && column_open[c] && uniform01(random) < density) {
        pattern.col.push_back(static_cast<std::int32_t>(c));
      }
    }
    pattern.crow.push_back(static_cast<std::int32_t>(pattern.col.size()));
  }
}

void fill_equal_rows(HostPattern& pattern, double density, Random& random) {
  std::vector<std::int32_t> columns = all_columns(pattern);
  const auto count = std::llround(density * static_cast<double>(pattern.block_cols));
  for (std::int64_t r = 0; r < pattern.block_rows; ++r) append_random_row(pattern, columns, count, random);
}

void fill_banded(HostPattern& pattern, double density) {
  const auto width = std::max<std::int64_t>(std::llround(density * static_cast<double>(pattern.block_cols)),
                                            density > 0 ? 1 : 0);
  for (std::int64_t r = 0; r < pattern.block_rows; ++r) {
    const std::int64_t centre = (2 * r + 1) * pattern.block_cols / (2 * pattern.block_rows);
    const std::int64_t begin = std::clamp<std::int64_t>(centre - width / 2, 0, pattern.block_cols - width);
    append_range(pattern, begin, begin + width);
  }
}

/// Rows of given relative lengths, scaled so that their sum is `density` of all blocks although no row is longer than
/// the matrix is wide.
void fill_weighted_rows(HostPattern& pattern, double density, std::vector<double> weights, Random& random) {
  const double width = static_cast<double>(pattern.block_cols);
  const double wanted = density * width * static_cast<double>(pattern.block_rows);
  double low = 0, high = width / *std::min_element(weights.begin(), weights.end());
  const auto total = [&](double scale) {
    return std::accumulate(weights.begin(), weights.end(), 0.0,
                           [&](double sum, double weight) { return sum + std::min(scale * weight, width); });
  };
  for (int i = 0; i < 60; ++i) (total((low + high) / 2) < wanted ? low : high) = (low + high) / 2;
  std::vector<std::int32_t> columns = all_columns(pattern);
  double owed = 0;  // what rounding has taken so far
  for (double weight : weights) {
    const double exact = std::min(high * weight, width) + owed;
    const auto count = std::clamp<std::int64_t>(std::llround(exact), 0, pattern.block_cols);
    owed = exact - static_cast<double>(count);
    append_random_row(pattern, columns, count, random);
  }
}

void fill_experts(HostPattern& pattern, double density, Random& random) {
  const auto experts = std::clamp<std::int64_t>(density > 0 ? std::llround(1 / density) : 1, 1, pattern.block_cols);
  // Loads between a half and one and a half of the mean, then scaled to cover the rows.
  std::vector<double> load(static_cast<std::size_t>(experts));
  for (double& x : load) x = 0.5 + uniform01(random);
  const double sum = std::accumulate(load.begin(), load.end(), 0.0);
  double passed = 0;
  std::int64_t row = 0;
  for (std::int64_t e = 0; e < experts; ++e) {
    passed += load[e];
    const std::int64_t end = e + 1 == experts ? pattern.block_rows
                                              : std::llround(passed / sum * static_cast<double>(pattern.block_rows));
    for (; row < end; ++row) {
      append_range(pattern, e * pattern.block_cols / experts, (e + 1) * pattern.block_cols / experts);
    }
  }
}

}  // namespace

const std::vector<std::string>& pattern_kinds() {
  static const std::vector<std::string> kinds{"uniform", "equal_rows", "banded", "power_law",
                                              "skewed",  "holes",      "experts"};
  return kinds;
}

HostPattern make_pattern(const std::string& kind, std::int64_t block_rows, std::int64_t block_cols, double density,
                         std::uint64_t seed) {
  if (!(density >= 0 && density <= 1)) throw std::invalid_argument("density is outside of [0, 1]");
  HostPattern pattern;
  pattern.block_rows = block_rows;
  pattern.block_cols = block_cols;
  pattern.crow.reserve(static_cast<std::size_t>(block_rows) + 1);
  if (block_rows == 0 || block_cols == 0) {
    pattern.crow.assign(static_cast<std::size_t>(block_rows) + 1, 0);
    return pattern;
  }
  Random random(seed);
  const auto rows = static_cast<std::size_t>(block_rows), columns = static_cast<std::size_t>(block_cols);
  if (kind == "uniform") {
    fill_uniform(pattern, density, random, std::vector<bool>(rows, true), std::vector<bool>(columns, true));
  } else if (kind == "equal_rows") {
    fill_equal_rows(pattern, density, random);
  } else if (kind == "banded") {
    fill_banded(pattern, density);
  } else if (kind == "power_law") {
    std::vector<double> weights(rows);
    for (std::size_t i = 0; i < rows; ++i) weights[i] = 1 / std::sqrt(static_cast<double>(i + 1));
    shuffle(weights, random);
    fill_weighted_rows(pattern, density, weights, random);
  } else if (kind == "skewed") {
    std::vector<double> weights(rows, 1.0);
    for (std::size_t i = 0; i < rows; i += 64) weights[i] = 1e9;
    fill_weighted_rows(pattern, density, weights, random);
  } else if (kind == "holes") {
    std::vector<bool> row_open(rows), column_open(columns);
    for (std::size_t i = 0; i < rows; ++i) row_open[i] = random() % 3 != 0;
    for (std::size_t i = 0; i < columns; ++i) column_open[i] = random() % 3 != 0;
    fill_uniform(pattern, std::min(1.0, density * 9 / 4), random, row_open, column_open);
  } else if (kind == "experts") {
    fill_experts(pattern, density, random);
  } else {
    throw std::invalid_argument("pattern kind '" + kind + "' is not known");
  }
  return pattern;
}

}  // namespace triage::bench
