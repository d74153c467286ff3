// How the sm80 kernels' tiles of 16-bit elements lie in shared memory, and how they get there.
#pragma once

#include <cstdint>

#include "ptx/cp_async.h"

namespace triage::attention::sm80 {

/// Where chunk `chunk` of row `row` lies: chunks of 128 bytes are permuted, so that ldmatrix finds eight rows in eight
/// banks.
template <int kRowBytes>
__device__ __forceinline__ int tile_offset(int row, int chunk) {
  if constexpr (kRowBytes % 128 == 0) {
    return row * kRowBytes + (chunk ^ (row & 7)) * 16;
  } else {  // rows that share 128 bytes
    static_assert(kRowBytes == 64 || kRowBytes == 32, "rows of two or four chunks");
    return row * kRowBytes + (kRowBytes == 64 ? chunk ^ (row >> 1 & 3) : chunk ^ (row >> 2 & 1)) * 16;
  }
}

/// 16 bytes, or zeros. Chunks that 16-byte accesses do not reach go element by element, and are not asynchronous.
__device__ __forceinline__ void copy_chunk(std::uint32_t place, const void* from, bool valid, bool aligned) {
  if (aligned) {
    ptx::cp_async_16_zero_fill(place, from, valid ? 16 : 0);
  } else {
    const auto* elements = static_cast<const std::uint16_t*>(from);
    std::uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
      words[i] = valid ? elements[2 * i] | static_cast<std::uint32_t>(elements[2 * i + 1]) << 16 : 0;
    ptx::store_shared_16(place, words[0], words[1], words[2], words[3]);
  }
}

}  // namespace triage::attention::sm80
