// What both passes of the backward do with values in registers.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "device/epilogue.h"

namespace triage::attention::sm90 {

template <typename Element>
__device__ __forceinline__ float2 unpack2(std::uint32_t word) {
  if constexpr (std::is_same_v<Element, __half>) {
    return __half22float2(reinterpret_cast<const __half2&>(word));
  } else {
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
  }
}

/// A warpgroup's accumulators of 64 rows times `scale`, into memory: this lane's rows are `rows`, those from `row_end`
/// on and columns from `columns` on are left out. Four lanes exchange, so that each writes 16 bytes.
template <typename Element, int kCount>
__device__ __forceinline__ void store_rows(const float (&x)[kCount], float scale, Element* base, std::int64_t stride,
                                           int row, int row_end, int first_column, int columns) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int r = row + 8 * i;
    Element* const to = base + r * stride;
#pragma unroll
    for (int j = 0; j < kCount / 4; j += 4) {
      std::uint32_t words[4];
#pragma unroll
      for (int t = 0; t < 4; t++) {
        words[t] = device::pack2<Element>(x[4 * (j + t) + 2 * i] * scale, x[4 * (j + t) + 2 * i + 1] * scale);
      }
      device::transpose_across_quad(words, lane % 4);
      const int column = first_column + 8 * (j + lane % 4);
      if (r < row_end && column < columns) {
        *reinterpret_cast<uint4*>(to + column) = make_uint4(words[0], words[1], words[2], words[3]);
      }
    }
  }
}

}  // namespace triage::attention::sm90
