// Cuts the caller's workspace into parts. Included only by src/cpu/*_kernel.cpp (see simd.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/simd.h"

namespace triage::cpu::TRIAGE_ISA {

static inline std::size_t round_up(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

static inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// What all threads share comes first, then one part per thread.
struct WorkspacePlan {
  std::size_t used_columns = 0;   ///< one byte per block column: whether any block reads it
  std::size_t packed = 0;         ///< packed panels of a dense operand
  std::size_t scratch = 0;        ///< of each thread

  std::size_t bytes(int threads) const { return used_columns + packed + scratch * static_cast<std::size_t>(threads); }

  /// At most `threads`, and as many as `available` bytes hold; at least one.
  int threads_within(std::size_t available, int threads) const {
    while (threads > 1 && bytes(threads) > available) --threads;
    return threads;
  }

  std::uint8_t* used_columns_in(void* workspace) const { return static_cast<std::uint8_t*>(workspace); }
  template <class T>
  T* packed_in(void* workspace) const {
    return reinterpret_cast<T*>(used_columns_in(workspace) + used_columns);
  }
  template <class T>
  T* scratch_in(void* workspace, int thread) const {
    return reinterpret_cast<T*>(used_columns_in(workspace) + used_columns + packed + scratch * thread);
  }
};

/// Marks the block columns that the pattern's blocks lie in: only these are worth packing.
static inline void mark_used_columns(const std::int32_t* col, std::int64_t nnz_blocks, std::int32_t block_cols,
                                     std::uint8_t* used) {
  for (std::int32_t j = 0; j < block_cols; ++j) used[j] = 0;
  for (std::int64_t p = 0; p < nnz_blocks; ++p) used[col[p]] = 1;
}

/// First block row of part `part` of `parts`, cut so that all parts hold about equally many blocks. A row counts for one
/// block more than it has, for the writing of its output.
static inline std::int32_t first_row_of_part(const std::int32_t* crow, std::int32_t block_rows, std::int64_t part,
                                             std::int64_t parts) {
  const std::int64_t target = (static_cast<std::int64_t>(crow[block_rows]) + block_rows) * part / parts;
  std::int32_t low = 0, high = block_rows;
  while (low < high) {
    const std::int32_t middle = low + (high - low) / 2;
    if (static_cast<std::int64_t>(crow[middle]) + middle < target) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace triage::cpu::TRIAGE_ISA
