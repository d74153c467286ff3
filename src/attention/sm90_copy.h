// How rows of one head of one sequence come into shared memory (TMA), whatever the sequence's length: the tensor map
// (host) and the load (device). Both directions of attention use it.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "device/tensor_map.h"
#include "registry/attention_kernel.h"

#ifdef __CUDACC__
#include "ptx/tma.h"
#endif

namespace triage::attention::sm90 {

/// A tensor map of [batch, sequence, heads, head_dim] for boxes of `rows` rows of one head.
///
/// Sliced: one box holds all columns, in panels of 64. Coordinates: 0, row, 0, head, batch. Columns must be whole
/// panels, and all sequences as long as the tensor.
///
/// Otherwise one box is one panel, and the rows of a sequence end where the caller says: rows 0 .. `rows` - 1 of the
/// box are a dimension of their own that is cut at its end; counted from `rows` - valid, exactly `valid` rows lie
/// inside. The start comes through another dimension of the same stride, and the base address is moved back by `rows`
/// rows to make up for it. Coordinates: column, rows - valid, head, first row + valid, batch.
inline CUtensorMap attention_map(const AttentionTensor& t, bool bfloat16, std::int64_t batch, std::int64_t sequence,
                                 std::int64_t heads, int head_dim, int rows, bool sliced) {
  const std::int64_t row_stride = t.sequence_stride, head_stride = t.head_stride;
  const std::int64_t batch_stride = batch > 1 ? t.batch_stride : row_stride;  // cu_seqlens: 0, and unused
  if (sliced) {
    return device::tensor_map_5d(t.data, bfloat16, {64, sequence, head_dim / 64, heads, batch},
                                 {row_stride, 64, head_stride, batch_stride}, {64, rows, head_dim / 64, 1, 1});
  }
  const char* const base = static_cast<const char*>(t.data) - rows * row_stride * 2;
  return device::tensor_map_5d(base, bfloat16, {head_dim, rows, heads, std::int64_t{1} << 31, batch},
                               {row_stride, head_stride, row_stride, batch_stride}, {64, rows, 1, 1, 1});
}

constexpr int kZeroRows = 32;  ///< of a box of the map of zeros

/// For boxes that lie outside of a tensor altogether, see load_rows: the data is touched but not used.
inline CUtensorMap map_of_zeros(const void* data, bool bfloat16) {
  return device::tensor_map_5d(data, bfloat16, {64, kZeroRows, 1, 1, 1}, {64, 64, 64, 64}, {64, kZeroRows, 1, 1, 1});
}

#ifdef __CUDACC__
/// One thread loads kRows rows x kPanels panels of one head, of which `valid` rows and `columns` columns lie inside of
/// the sequence; the others become zero.
template <int kRows, int kPanels>
__device__ __forceinline__ void load_rows(std::uint32_t place, const CUtensorMap& map, const CUtensorMap& zeros,
                                          bool sliced, std::uint32_t barrier, int start, int row, int length,
                                          int columns, int head, int batch) {
  static_assert(kRows % kZeroRows == 0, "whole boxes of zeros");
  if (sliced) {
    ptx::tma_load_5d(place, &map, barrier, 0, row, 0, head, batch);
    return;
  }
  const int valid = min(length - row, kRows);
#pragma unroll 1
  for (int p = 0; p < kPanels; p++) {
    const std::uint32_t panel = place + p * kRows * 128;
    if (valid > 0 && 64 * p < columns) {
      ptx::tma_load_5d(panel, &map, barrier, 64 * p, kRows - valid, head, start + row + valid, batch);
    } else {
#pragma unroll 1
      for (int r = 0; r < kRows; r += kZeroRows) {
        ptx::tma_load_5d(panel + r * 128, &zeros, barrier, 0, kZeroRows, 0, 0, 0);
      }
    }
  }
}
#endif

}  // namespace triage::attention::sm90
