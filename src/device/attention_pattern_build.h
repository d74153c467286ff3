// Building the bits of an AttentionPattern where they live: functions ending in _cpu work on host memory, those in
// _cuda enqueue on a stream of the current device and neither allocate nor synchronise. Twins give identical results.
//
// Every source becomes a mask of blocks first, one byte each (0 none, 1 listed, 2 full), and then bits.
#pragma once

#include <cstddef>
#include <cstdint>

namespace triage {

/// Masks of blocks as the caller counts them: `masks` of [rows, cols] bytes.
struct AttentionByteMask {
  std::uint8_t* data = nullptr;
  std::int64_t masks = 0;
  std::int32_t rows = 0, cols = 0;
  std::int64_t count() const { return masks * rows * cols; }
};

/// Index arrays as the caller holds them.
struct AttentionIndices {
  const void* data = nullptr;
  int bits = 32;  ///< 32 or 64
};

/// One list of columns for each row of each mask: entries of `columns` from row * width on, the first counts[row] of
/// them (all `width` without counts). Entries that name no column are left out.
void add_lists_cpu(const AttentionIndices& columns, std::int64_t width, const AttentionIndices& counts,
                   std::uint8_t value, const AttentionByteMask& mask);
void add_lists_cuda(const AttentionIndices& columns, std::int64_t width, const AttentionIndices& counts,
                    std::uint8_t value, const AttentionByteMask& mask, void* stream);

/// Rows of CSR arrays: masks x (rows + 1) pointers into `entries` columns. What is out of bounds is left out.
void add_rows_cpu(const AttentionIndices& pointers, const AttentionIndices& columns, std::int64_t entries,
                  std::uint8_t value, const AttentionByteMask& mask);
void add_rows_cuda(const AttentionIndices& pointers, const AttentionIndices& columns, std::int64_t entries,
                   std::uint8_t value, const AttentionByteMask& mask, void* stream);

void clear_mask_cpu(const AttentionByteMask& mask);
void clear_mask_cuda(const AttentionByteMask& mask, void* stream);

/// Bits of one direction, writable.
struct BlockBitsArrays {
  std::uint32_t* listed = nullptr;
  std::uint32_t* full = nullptr;
  std::int32_t* counts = nullptr;
  int rows = 0, row_words = 0;
};

/// What bits are made from: blocks of `factor_q` x `factor_k` blocks of 64 each.
struct BitsPlan {
  AttentionByteMask mask;
  int factor_q = 1, factor_k = 1;
  BlockBitsArrays by_query, by_key;
};
void build_bits_cpu(const BitsPlan& plan);
void build_bits_cuda(const BitsPlan& plan, void* stream);

/// Bit masks of elements. The caller's `index` [masks, rows, cols] names entries of `elements` [entries, block_q,
/// block_k] bytes; numbers out of bounds count as none.
struct ElementsPlan {
  const std::int32_t* index = nullptr;
  const std::uint8_t* elements = nullptr;
  std::int64_t masks = 0, entries = 0;
  std::int32_t rows = 0, cols = 0;
  int factor_q = 1, factor_k = 1;
  int rows64 = 0, cols64 = 0;
  std::int32_t* index64 = nullptr;    ///< [masks][rows64][cols64]
  std::uint64_t* by_query = nullptr;  ///< [entries * factor_q * factor_k][64]
  std::uint64_t* by_key = nullptr;
};
void build_elements_cpu(const ElementsPlan& plan);
void build_elements_cuda(const ElementsPlan& plan, void* stream);

}  // namespace triage
