#include "bench/attention_patterns.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "verdict/random_inputs.h"

namespace triage::bench {
namespace {

using verdict::Random;

/// [0, count) in random order.
std::vector<std::int64_t> shuffled(std::int64_t count, Random& random) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), std::int64_t{0});
  for (std::size_t i = numbers.size(); i > 1; --i)
    std::swap(numbers[i - 1], numbers[static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(i) - 1))]);
  return numbers;
}

/// Lengths of rows whose sum is density * rows * cols: min(cols, c * (rank + 1)^-0.7), c by bisection.
std::vector<std::int64_t> power_law_lengths(double density, std::int64_t rows, std::int64_t cols, Random& random) {
  const auto length = [&](double c, std::int64_t rank) {
    return std::min<double>(static_cast<double>(cols), c * std::pow(static_cast<double>(rank) + 1, -0.7));
  };
  const double wanted = density * static_cast<double>(rows) * static_cast<double>(cols);
  double low = 0, high = static_cast<double>(cols) * static_cast<double>(rows);
  for (int step = 0; step < 60; ++step) {
    const double middle = (low + high) / 2;
    double sum = 0;
    for (std::int64_t rank = 0; rank < rows; ++rank) sum += length(middle, rank);
    (sum < wanted ? low : high) = middle;
  }
  const std::vector<std::int64_t> rank_of = shuffled(rows, random);
  std::vector<std::int64_t> lengths;
  for (const std::int64_t rank : rank_of) lengths.push_back(std::llround(length(low, rank)));
  return lengths;
}

void add_random_blocks(std::uint8_t* row, std::int64_t count, std::int64_t cols, Random& random) {
  const std::vector<std::int64_t> order = shuffled(cols, random);
  for (std::int64_t i = 0; i < count; ++i) row[order[static_cast<std::size_t>(i)]] = 1;
}

void add_window_and_full_rows(std::uint8_t* mask, double density, std::int64_t rows, std::int64_t cols,
                              Random& random) {
  // A quarter of the blocks in full rows (never all rows), the rest in the band.
  const std::int64_t full = std::llround(density / 4 * static_cast<double>(rows));
  const auto others = static_cast<double>(rows - full);
  const double band = (density * static_cast<double>(rows) - static_cast<double>(full)) / others;
  const std::int64_t width = std::clamp<std::int64_t>(std::llround(band * static_cast<double>(cols)), 0, cols);
  const std::vector<std::int64_t> order = shuffled(rows, random);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t begin = std::clamp<std::int64_t>(r * cols / rows - width / 2, 0, cols - width);
    std::fill_n(mask + r * cols + begin, width, std::uint8_t{1});
  }
  for (std::int64_t i = 0; i < full; ++i)
    std::fill_n(mask + order[static_cast<std::size_t>(i)] * cols, cols, std::uint8_t{1});
}

}  // namespace

const char* pattern_kind_name(PatternKind kind) {
  switch (kind) {
    case PatternKind::scattered:
      return "scattered";
    case PatternKind::uniform:
      return "uniform";
    case PatternKind::window_and_full_rows:
      return "window_and_full_rows";
    case PatternKind::power_law:
      return "power_law";
  }
  return "unknown";
}

std::optional<PatternKind> pattern_kind_from_name(std::string_view name) {
  for (const PatternKind kind : {PatternKind::scattered, PatternKind::uniform, PatternKind::window_and_full_rows,
                                 PatternKind::power_law}) {
    if (name == pattern_kind_name(kind)) return kind;
  }
  return std::nullopt;
}

std::vector<std::uint8_t> random_blocks(PatternKind kind, double density, std::int64_t masks, std::int64_t rows,
                                        std::int64_t cols, std::uint64_t seed) {
  std::vector<std::uint8_t> blocks(static_cast<std::size_t>(masks * rows * cols), 0);
  if (blocks.empty()) return blocks;
  Random random(seed);
  for (std::int64_t m = 0; m < masks; ++m) {
    std::uint8_t* const mask = blocks.data() + m * rows * cols;
    switch (kind) {
      case PatternKind::scattered:
        for (std::int64_t i = 0; i < rows * cols; ++i) mask[i] = random.chance(density);
        break;
      case PatternKind::uniform:
        for (std::int64_t r = 0; r < rows; ++r)
          add_random_blocks(mask + r * cols, std::llround(density * static_cast<double>(cols)), cols, random);
        break;
      case PatternKind::window_and_full_rows:
        add_window_and_full_rows(mask, density, rows, cols, random);
        break;
      case PatternKind::power_law: {
        const std::vector<std::int64_t> lengths = power_law_lengths(density, rows, cols, random);
        for (std::int64_t r = 0; r < rows; ++r)
          add_random_blocks(mask + r * cols, lengths[static_cast<std::size_t>(r)], cols, random);
        break;
      }
    }
  }
  return blocks;
}

}  // namespace triage::bench
