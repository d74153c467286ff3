#include "device/pattern_build.h"

#include <algorithm>
#include <climits>
#include <cstring>
#include <string>

#include "triage/error.h"

namespace triage {

namespace {

[[noreturn]] void fail(const std::string& sentence) { throw Error(ErrorCode::invalid_argument, sentence); }

std::int64_t load_index(const void* data, int bits, std::int64_t i) {
  return bits == 32 ? static_cast<const std::int32_t*>(data)[i] : static_cast<const std::int64_t*>(data)[i];
}

std::string entry(const char* array, std::int64_t index, std::int64_t value) {
  return std::string(array) + "[" + std::to_string(index) + "] is " + std::to_string(value);
}

void check_row_pointers(const BsrArrays& bsr, std::int64_t block_rows, std::int64_t nnz) {
  std::int64_t previous = load_index(bsr.crow, bsr.crow_bits, 0);
  if (previous != 0) fail(entry("crow_indices", 0, previous) + ", accepted: 0");
  for (std::int64_t i = 1; i <= block_rows; i++) {
    const std::int64_t value = load_index(bsr.crow, bsr.crow_bits, i);
    if (value < previous) {
      fail(entry("crow_indices", i, value) + ", less than crow_indices[" + std::to_string(i - 1) +
           "] = " + std::to_string(previous) + "; row pointers never fall");
    }
    if (value > nnz) {
      fail(entry("crow_indices", i, value) + ", past the end of col_indices, which holds " + std::to_string(nnz) +
           " entries");
    }
    previous = value;
  }
  if (previous != nnz) {
    fail("crow_indices ends with " + std::to_string(previous) + ", but col_indices holds " + std::to_string(nnz) +
         " entries; they must agree");
  }
}

void check_columns(const BsrArrays& bsr, std::int64_t block_rows, std::int64_t block_cols) {
  for (std::int64_t row = 0; row < block_rows; row++) {
    const std::int64_t begin = load_index(bsr.crow, bsr.crow_bits, row);
    const std::int64_t end = load_index(bsr.crow, bsr.crow_bits, row + 1);
    for (std::int64_t i = begin; i < end; i++) {
      const std::int64_t value = load_index(bsr.col, bsr.col_bits, i);
      const auto fail_entry = [&](const std::string& what) {
        fail(entry("col_indices", i, value) + " (block row " + std::to_string(row) + "), " + what);
      };
      if (value < 0 || value >= block_cols) {
        fail_entry(block_cols == 0 ? "but the matrix has no block columns"
                                   : "accepted: 0 to " + std::to_string(block_cols - 1));
      }
      if (i == begin) continue;
      const std::int64_t previous = load_index(bsr.col, bsr.col_bits, i - 1);
      if (value == previous) fail_entry("the same as the entry before it; each block may stand once");
      if (value < previous) {
        fail_entry("less than the " + std::to_string(previous) + " before it; columns ascend within a row");
      }
    }
  }
}

// Zero of either sign is zero; NaN is not.
template <typename Word>
bool row_has_nonzero(const Word* data, std::int64_t count) {
  constexpr Word kMagnitude = static_cast<Word>(~Word{0}) >> 1;
  Word bits = 0;
  for (std::int64_t i = 0; i < count; i++) bits = static_cast<Word>(bits | data[i]);
  return (bits & kMagnitude) != 0;
}

template <typename Word>
void dense_to_mask(const DenseMatrix& matrix, int block, std::uint8_t* mask) {
  const std::int64_t block_rows = (matrix.rows + block - 1) / block, block_cols = (matrix.cols + block - 1) / block;
  std::memset(mask, 0, static_cast<std::size_t>(block_rows * block_cols));
  for (std::int64_t r = 0; r < matrix.rows; r++) {
    const Word* row = static_cast<const Word*>(matrix.data) + r * matrix.stride;
    std::uint8_t* mask_row = mask + r / block * block_cols;
    for (std::int64_t c = 0; c < block_cols; c++) {
      const std::int64_t width = std::min<std::int64_t>(block, matrix.cols - c * block);
      if (mask_row[c] == 0 && row_has_nonzero(row + c * block, width)) mask_row[c] = 1;
    }
  }
}

// Calls visit(matrix pointer, values pointer, bytes of the row inside the matrix or 0, bytes of the block's row).
template <typename Visit>
void for_each_block_row(const PatternView& pattern, const DenseMatrix& matrix, const void* values, const Visit& visit) {
  const std::int64_t block = pattern.block, size = matrix.element_bytes;
  for (std::int64_t i = 0; i < pattern.nnz_blocks; i++) {
    const std::int64_t first_row = pattern.row[i] * block, first_col = pattern.col[i] * block;
    const std::int64_t width = std::min(block, pattern.cols - first_col);
    for (std::int64_t r = 0; r < block; r++) {
      const bool inside = first_row + r < pattern.rows;
      auto* in_matrix =
          static_cast<char*>(matrix.data) + (inside ? (first_row + r) * matrix.stride + first_col : 0) * size;
      auto* in_values = static_cast<char*>(const_cast<void*>(values)) + (i * block + r) * block * size;
      visit(in_matrix, in_values, static_cast<std::size_t>(inside ? width * size : 0),
            static_cast<std::size_t>(block * size));
    }
  }
}

}  // namespace

void validate_bsr_cpu(const BsrArrays& bsr, std::int32_t block_rows, std::int32_t block_cols, std::int64_t nnz) {
  check_row_pointers(bsr, block_rows, nnz);
  check_columns(bsr, block_rows, block_cols);
}

void copy_bsr_cpu(const BsrArrays& bsr, const PatternArrays& pattern) {
  for (std::int64_t i = 0; i <= pattern.block_rows; i++) {
    pattern.crow[i] = static_cast<std::int32_t>(load_index(bsr.crow, bsr.crow_bits, i));
  }
  for (std::int64_t i = 0; i < pattern.nnz; i++) {
    pattern.col[i] = static_cast<std::int32_t>(load_index(bsr.col, bsr.col_bits, i));
  }
}

void build_twin_cpu(const PatternArrays& pattern, const PatternArrays& twin) {
  // A counting sort by column: stable, so that the twin's columns ascend.
  std::memset(twin.crow, 0, (static_cast<std::size_t>(twin.block_rows) + 1) * sizeof(std::int32_t));
  for (std::int32_t i = 0; i < pattern.nnz; i++) twin.crow[pattern.col[i] + 1]++;
  for (std::int32_t c = 0; c < twin.block_rows; c++) twin.crow[c + 1] += twin.crow[c];
  for (std::int32_t r = 0; r < pattern.block_rows; r++) {
    for (std::int32_t i = pattern.crow[r]; i < pattern.crow[r + 1]; i++) {
      const std::int32_t t = twin.crow[pattern.col[i]]++;  // undone below
      pattern.row[i] = r;
      pattern.positions[t] = i;
      twin.col[t] = r;
      twin.row[t] = pattern.col[i];
      twin.positions[i] = t;
    }
  }
  for (std::int32_t c = twin.block_rows; c > 0; c--) twin.crow[c] = twin.crow[c - 1];
  twin.crow[0] = 0;
}

void mask_to_crow_cpu(const BlockMask& mask, std::int32_t* crow) {
  std::int64_t count = 0;
  crow[0] = 0;
  for (std::int32_t r = 0; r < mask.block_rows; r++) {
    for (std::int32_t c = 0; c < mask.block_cols; c++) count += mask.data[r * mask.stride + c] != 0;
    crow[r + 1] = count <= INT32_MAX ? static_cast<std::int32_t>(count) : -1;
  }
}

void mask_to_col_cpu(const BlockMask& mask, const std::int32_t* crow, std::int32_t* col) {
  for (std::int32_t r = 0; r < mask.block_rows; r++) {
    std::int32_t* next = col + crow[r];
    for (std::int32_t c = 0; c < mask.block_cols; c++) {
      if (mask.data[r * mask.stride + c] != 0) *next++ = c;
    }
  }
}

void dense_to_mask_cpu(const DenseMatrix& matrix, int block, std::uint8_t* mask) {
  switch (matrix.element_bytes) {
    case 2:
      return dense_to_mask<std::uint16_t>(matrix, block, mask);
    case 4:
      return dense_to_mask<std::uint32_t>(matrix, block, mask);
    default:
      return dense_to_mask<std::uint64_t>(matrix, block, mask);
  }
}

void gather_blocks_cpu(const PatternView& pattern, const DenseMatrix& matrix, void* values) {
  for_each_block_row(pattern, matrix, values, [](char* in_matrix, char* in_values, std::size_t width, std::size_t all) {
    if (width > 0) std::memcpy(in_values, in_matrix, width);
    std::memset(in_values + width, 0, all - width);
  });
}

void scatter_blocks_cpu(const PatternView& pattern, const void* values, const DenseMatrix& matrix) {
  for_each_block_row(pattern, matrix, values, [](char* in_matrix, char* in_values, std::size_t width, std::size_t) {
    if (width > 0) std::memcpy(in_matrix, in_values, width);
  });
}

void clear_matrix_cpu(const DenseMatrix& matrix) {
  for (std::int64_t r = 0; r < matrix.rows; r++) {
    std::memset(static_cast<char*>(matrix.data) + r * matrix.stride * matrix.element_bytes, 0,
                static_cast<std::size_t>(matrix.cols * matrix.element_bytes));
  }
}

}  // namespace triage
