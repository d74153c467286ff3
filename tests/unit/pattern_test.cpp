// BlockPattern on the host, against brute force.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "triage/block_pattern.h"
#include "triage/error.h"
#include "unit/pattern_cases.h"
#include "unit/tensor_view.h"

namespace triage {
namespace {

using test::PatternCase;
using test::random_case;
using test::View;
using test::view;

std::vector<std::int32_t> read(const DLTensor& tensor) {
  const auto* data = static_cast<const std::int32_t*>(tensor.data);
  return {data, data + tensor.shape[0]};
}

PatternCase transpose(const PatternCase& p) {
  PatternCase t;
  t.rows = p.cols;
  t.cols = p.rows;
  t.block = p.block;
  t.block_rows = p.block_cols;
  t.block_cols = p.block_rows;
  t.mask.resize(p.mask.size());
  for (std::int32_t r = 0; r < p.block_rows; r++) {
    for (std::int32_t c = 0; c < p.block_cols; c++) {
      t.mask[static_cast<std::size_t>(c) * t.block_cols + r] = p.has(r, c);
    }
  }
  test::fill_indices(t);
  return t;
}

// Block row of every block.
std::vector<std::int32_t> rows_of(const PatternCase& p) {
  std::vector<std::int32_t> rows;
  for (std::int32_t r = 0; r < p.block_rows; r++) rows.insert(rows.end(), p.crow[r + 1] - p.crow[r], r);
  return rows;
}

void expect_is(const BlockPattern& pattern, const PatternCase& p) {
  EXPECT_EQ(pattern.rows(), p.rows);
  EXPECT_EQ(pattern.cols(), p.cols);
  EXPECT_EQ(pattern.block_size(), p.block);
  EXPECT_EQ(pattern.block_rows(), p.block_rows);
  EXPECT_EQ(pattern.block_cols(), p.block_cols);
  EXPECT_EQ(pattern.nnz_blocks(), static_cast<std::int64_t>(p.col.size()));
  EXPECT_EQ(read(pattern.crow_indices()), p.crow);
  EXPECT_EQ(read(pattern.col_indices()), p.col);
  if (!p.mask.empty()) {
    EXPECT_DOUBLE_EQ(pattern.density(), static_cast<double>(p.col.size()) / static_cast<double>(p.mask.size()));
  }
}

void expect_is_with_twin(const BlockPattern& pattern, const PatternCase& p) {
  expect_is(pattern, p);
  const PatternCase t = transpose(p);
  const BlockPattern twin = pattern.transposed();
  expect_is(twin, t);
  expect_is(twin.transposed(), p);
  // Entry i: where block i of the twin stands in the pattern.
  const std::vector<std::int32_t> positions = read(pattern.transposed_positions());
  const std::vector<std::int32_t> back = read(twin.transposed_positions());
  const std::vector<std::int32_t> rows = rows_of(p), twin_rows = rows_of(t);
  ASSERT_EQ(positions.size(), p.col.size());
  for (std::size_t i = 0; i < positions.size(); i++) {
    ASSERT_EQ(rows[positions[i]], t.col[i]);
    ASSERT_EQ(p.col[positions[i]], twin_rows[i]);
    ASSERT_EQ(back[positions[i]], static_cast<std::int32_t>(i));
  }
}

TEST(Pattern, FromBsrOnRandomPatterns) {
  for (unsigned seed = 0; seed < 300; seed++) {
    SCOPED_TRACE(seed);
    const PatternCase p = random_case(seed);
    const std::vector<std::int64_t> wide_crow(p.crow.begin(), p.crow.end()), wide_col(p.col.begin(), p.col.end());
    switch (seed % 4) {  // all mixtures of index types
      case 0:
        expect_is_with_twin(BlockPattern::from_bsr(view(p.crow), view(p.col), p.rows, p.cols, p.block), p);
        break;
      case 1:
        expect_is_with_twin(BlockPattern::from_bsr(view(wide_crow), view(p.col), p.rows, p.cols, p.block), p);
        break;
      case 2:
        expect_is_with_twin(BlockPattern::from_bsr(view(p.crow), view(wide_col), p.rows, p.cols, p.block), p);
        break;
      default:
        expect_is_with_twin(BlockPattern::from_bsr(view(wide_crow), view(wide_col), p.rows, p.cols, p.block), p);
    }
  }
}

TEST(Pattern, FromMaskOnRandomPatterns) {
  for (unsigned seed = 0; seed < 100; seed++) {
    SCOPED_TRACE(seed);
    const PatternCase p = random_case(seed);
    View mask = view(p.mask, {p.block_rows, p.block_cols});
    if (seed % 2) mask.fields.dtype = {6, 8, 1};  // kDLBool
    expect_is_with_twin(BlockPattern::from_mask(mask, p.rows, p.cols, p.block), p);
  }
}

TEST(Pattern, FromMaskTakesStridedRows) {
  const PatternCase p = random_case(8);
  const std::int64_t stride = p.block_cols + 5;
  std::vector<std::uint8_t> wide(static_cast<std::size_t>(p.block_rows * stride), 1);
  for (std::int32_t r = 0; r < p.block_rows; r++) {
    std::memcpy(&wide[r * stride], &p.mask[static_cast<std::size_t>(r) * p.block_cols], p.block_cols);
  }
  expect_is(BlockPattern::from_mask(view(wide, {p.block_rows, p.block_cols}, {stride, 1}), p.rows, p.cols, p.block), p);
}

// A dense matrix with one nonzero element, anywhere, in each block of the pattern.
template <typename Word>
std::vector<Word> dense_with(const PatternCase& p, std::int64_t stride, Word nonzero, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Word> matrix(static_cast<std::size_t>(p.rows * stride));
  for (std::int32_t r = 0; r < p.block_rows; r++) {
    for (std::int32_t c = 0; c < p.block_cols; c++) {
      const std::int64_t height = std::min<std::int64_t>(p.block, p.rows - std::int64_t{r} * p.block);
      const std::int64_t width = std::min<std::int64_t>(p.block, p.cols - std::int64_t{c} * p.block);
      const std::int64_t i = r * p.block + static_cast<std::int64_t>(random() % height);
      const std::int64_t j = c * p.block + static_cast<std::int64_t>(random() % width);
      if (p.has(r, c)) matrix[i * stride + j] = nonzero;
    }
  }
  return matrix;
}

TEST(Pattern, FromDenseDropsZeroBlocks) {
  for (unsigned seed = 0; seed < 24; seed++) {
    SCOPED_TRACE(seed);
    const PatternCase p = random_case(seed, 12);
    const std::int64_t stride = p.cols + seed % 3;
    const auto floats = dense_with<float>(p, stride, 1e-40f, seed);  // denormal is not zero
    expect_is(BlockPattern::from_dense(view(floats, {p.rows, p.cols}, {stride, 1}), p.block), p);
    const auto doubles = dense_with<double>(p, stride, std::numeric_limits<double>::quiet_NaN(), seed);
    expect_is(BlockPattern::from_dense(view(doubles, {p.rows, p.cols}, {stride, 1}), p.block), p);
    const auto halves = dense_with<std::uint16_t>(p, stride, 0x7e00, seed);  // NaN
    View half_view = view(halves, {p.rows, p.cols}, {stride, 1});
    expect_is(BlockPattern::from_dense(half_view, p.block), p);
    half_view.fields.dtype = {kDLBfloat, 16, 1};
    expect_is(BlockPattern::from_dense(half_view, p.block), p);
  }
}

TEST(Pattern, FromDenseTakesNegativeZeroForZero) {
  std::vector<float> matrix(32 * 32, -0.0f);
  matrix[20 * 32 + 3] = -1.0f;
  const BlockPattern pattern = BlockPattern::from_dense(view(matrix, {32, 32}), 16);
  EXPECT_EQ(read(pattern.crow_indices()), (std::vector<std::int32_t>{0, 0, 1}));
  EXPECT_EQ(read(pattern.col_indices()), (std::vector<std::int32_t>{0}));
}

TEST(Pattern, GatherAndScatterAreInverse) {
  for (unsigned seed = 0; seed < 40; seed++) {
    SCOPED_TRACE(seed);
    const PatternCase p = random_case(seed, 10);
    const BlockPattern pattern = BlockPattern::from_bsr(view(p.crow), view(p.col), p.rows, p.cols, p.block);
    const std::int64_t stride = p.cols + seed % 4, nnz = pattern.nnz_blocks();
    std::vector<float> matrix(static_cast<std::size_t>(p.rows * stride), -7.0f);  // between the rows: to stay
    for (std::int64_t r = 0; r < p.rows; r++) {
      for (std::int64_t c = 0; c < p.cols; c++)
        matrix[r * stride + c] = static_cast<float>(1 + (r * 31 + c * 7) % 1000);
    }
    std::vector<float> values(static_cast<std::size_t>(nnz * p.block * p.block), std::nanf(""));
    const View matrix_view = view(matrix, {p.rows, p.cols}, {stride, 1});
    const View values_view = view(values, {nnz, p.block, p.block});
    gather_blocks(pattern, matrix_view, values_view);
    const std::vector<std::int32_t> rows = rows_of(p);
    for (std::int64_t i = 0; i < nnz; i++) {
      for (int e = 0; e < p.block * p.block; e++) {
        const std::int64_t r = std::int64_t{rows[i]} * p.block + e / p.block,
                           c = std::int64_t{p.col[i]} * p.block + e % p.block;
        ASSERT_EQ(values[i * p.block * p.block + e], r < p.rows && c < p.cols ? matrix[r * stride + c] : 0.0f);
      }
    }
    std::vector<float> back = matrix;
    scatter_blocks(pattern, values_view, view(back, {p.rows, p.cols}, {stride, 1}));
    for (std::int64_t r = 0; r < p.rows; r++) {
      for (std::int64_t c = 0; c < stride && r * stride + c < static_cast<std::int64_t>(back.size()); c++) {
        const bool block =
            c < p.cols && p.has(static_cast<std::int32_t>(r / p.block), static_cast<std::int32_t>(c / p.block));
        ASSERT_EQ(back[r * stride + c], c >= p.cols || block ? matrix[r * stride + c] : 0.0f);
      }
    }
  }
}

TEST(Pattern, UpdateRebuildsEverything) {
  std::mt19937 random(5);
  PatternCase p = test::make_case(40 * 16 - 3, 30 * 16, 16, 0.2, random);
  const BlockPattern pattern = BlockPattern::from_bsr(view(p.crow), view(p.col), p.rows, p.cols, p.block);
  BlockPattern other = pattern;  // shares the data
  for (int round = 0; round < 5; round++) {
    std::shuffle(p.mask.begin(), p.mask.end(), random);
    test::fill_indices(p);
    other.update(view(p.crow), view(p.col));
    expect_is_with_twin(pattern, p);
    // Through the twin as well.
    const PatternCase t = transpose(p);
    std::shuffle(p.mask.begin(), p.mask.end(), random);
    test::fill_indices(p);
    const PatternCase updated = transpose(p);
    other.transposed().update(view(updated.crow), view(updated.col));
    expect_is_with_twin(pattern, p);
    EXPECT_NE(t.col, updated.col);
  }
}

TEST(Pattern, UpdateRefusesOtherSizesAndKeepsThePattern) {
  const PatternCase p = random_case(8);
  BlockPattern pattern = BlockPattern::from_bsr(view(p.crow), view(p.col), p.rows, p.cols, p.block);
  std::vector<std::int32_t> fewer(p.col.begin(), p.col.end() - 1), wrong = p.col;
  EXPECT_THROW(pattern.update(view(p.crow), view(fewer)), Error);
  wrong[0] = p.block_cols;
  EXPECT_THROW(pattern.update(view(p.crow), view(wrong)), Error);
  expect_is_with_twin(pattern, p);
}

TEST(Pattern, EmptySizes) {
  const std::vector<std::int32_t> none, zero{0}, zeros(4, 0);
  const BlockPattern nothing;
  EXPECT_EQ(nothing.nnz_blocks(), 0);
  EXPECT_EQ(nothing.density(), 0.0);
  EXPECT_EQ(nothing.transposed().block_rows(), 0);
  const BlockPattern no_rows = BlockPattern::from_bsr(view(zero), view(none), 0, 100, 32);
  EXPECT_EQ(no_rows.block_cols(), 4);
  EXPECT_EQ(read(no_rows.transposed().crow_indices()), (std::vector<std::int32_t>{0, 0, 0, 0, 0}));
  const BlockPattern no_cols = BlockPattern::from_bsr(view(zeros), view(none), 33, 0, 16);
  EXPECT_EQ(no_cols.block_rows(), 3);
  const BlockPattern from_mask = BlockPattern::from_mask(View(nullptr, {kDLUInt, 8, 1}, {0, 4}), 0, 100, 32);
  EXPECT_EQ(from_mask.nnz_blocks(), 0);
  const BlockPattern from_dense = BlockPattern::from_dense(View(nullptr, {kDLFloat, 32, 1}, {100, 0}), 32);
  EXPECT_EQ(from_dense.block_rows(), 4);
  EXPECT_EQ(from_dense.nnz_blocks(), 0);
}

TEST(Pattern, CopiesShareAndMovesLeaveAPattern) {
  const PatternCase p = random_case(8);
  BlockPattern pattern = BlockPattern::from_bsr(view(p.crow), view(p.col), p.rows, p.cols, p.block);
  BlockPattern twin = pattern.transposed();
  const BlockPattern moved = std::move(pattern);
  expect_is(pattern, p);  // NOLINT: what was moved from is still a pattern
  expect_is(moved, p);
  pattern = BlockPattern();
  twin = BlockPattern();
  expect_is_with_twin(moved, p);
}

TEST(Pattern, TheTwinOutlivesThePattern) {
  const PatternCase p = random_case(8);
  const BlockPattern twin = BlockPattern::from_bsr(view(p.crow), view(p.col), p.rows, p.cols, p.block).transposed();
  expect_is(twin, transpose(p));
  expect_is(twin.transposed(), p);
}

TEST(Pattern, ToTheHostIsTheSamePattern) {
  const PatternCase p = random_case(8);
  const BlockPattern pattern = BlockPattern::from_bsr(view(p.crow), view(p.col), p.rows, p.cols, p.block);
  EXPECT_EQ(pattern.to({kDLCPU, 0}).crow_indices().data, pattern.crow_indices().data);
}

}  // namespace
}  // namespace triage
