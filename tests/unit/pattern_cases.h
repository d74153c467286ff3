// Random block patterns for tests, as masks and as BSR arrays, made by the plainest means.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace triage::test {

struct PatternCase {
  std::int64_t rows = 0, cols = 0;
  int block = 16;
  std::int32_t block_rows = 0, block_cols = 0;
  std::vector<std::uint8_t> mask;  // [block_rows, block_cols]
  std::vector<std::int32_t> crow{0}, col;

  bool has(std::int32_t r, std::int32_t c) const { return mask[static_cast<std::size_t>(r) * block_cols + c] != 0; }
};

inline void fill_indices(PatternCase& p) {
  p.crow.assign(1, 0);
  p.col.clear();
  for (std::int32_t r = 0; r < p.block_rows; r++) {
    for (std::int32_t c = 0; c < p.block_cols; c++) {
      if (p.has(r, c)) p.col.push_back(c);
    }
    p.crow.push_back(static_cast<std::int32_t>(p.col.size()));
  }
}

inline PatternCase make_case(std::int64_t rows, std::int64_t cols, int block, double density, std::mt19937& random) {
  PatternCase p;
  p.rows = rows;
  p.cols = cols;
  p.block = block;
  p.block_rows = static_cast<std::int32_t>((rows + block - 1) / block);
  p.block_cols = static_cast<std::int32_t>((cols + block - 1) / block);
  p.mask.resize(static_cast<std::size_t>(p.block_rows) * p.block_cols);
  std::bernoulli_distribution exists(density);
  for (std::uint8_t& byte : p.mask) byte = exists(random) ? 1 + random() % 255 : 0;
  fill_indices(p);
  return p;
}

/// By seed: uniform, full, empty, one block, a band, empty rows and columns, and a few rows far longer than the rest.
inline PatternCase random_case(unsigned seed, std::int32_t most_blocks = 70) {
  std::mt19937 random(seed);
  const auto pick = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  const int block = 16 << pick(0, 3);
  const std::int64_t rows = pick(1, most_blocks) * block - (pick(0, 1) ? pick(0, block - 1) : 0);
  const std::int64_t cols = pick(1, most_blocks) * block - (pick(0, 1) ? pick(0, block - 1) : 0);
  const double density = std::vector<double>{0.02, 0.05, 0.22, 0.5, 0.9}[static_cast<std::size_t>(pick(0, 4))];
  PatternCase p = make_case(rows, cols, block, density, random);
  for (std::int32_t r = 0; r < p.block_rows; r++) {
    const bool long_row = pick(0, 9) == 0;
    for (std::int32_t c = 0; c < p.block_cols; c++) {
      std::uint8_t& byte = p.mask[static_cast<std::size_t>(r) * p.block_cols + c];
      switch (seed % 8) {
        case 1:
          byte = 1;
          break;
        case 2:
          byte = 0;
          break;
        case 3:
          byte = r == p.block_rows / 2 && c == p.block_cols / 3;
          break;
        case 4:
          byte = std::abs(r - c) <= 2;
          break;
        case 5:
          byte = r % 3 == 1 || c % 4 == 2 ? 0 : byte;
          break;
        case 6:
          byte = long_row || (c == 3 && byte);
          break;
        default:
          break;
      }
    }
  }
  fill_indices(p);
  return p;
}

}  // namespace triage::test
