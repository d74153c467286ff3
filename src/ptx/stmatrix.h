// stmatrix: a warp stores four 8x8 tiles of 16-bit elements (sm_90 and later). Lane l gives the address of row l % 8 of
// tile l / 8, and holds two elements of each tile as mma.sync's and wgmma's accumulators lie.
#pragma once

#include <cstdint>

namespace triage::ptx {

/// @tparam kTransposed rows of the tiles in memory are columns of the fragments.
template <bool kTransposed>
__device__ __forceinline__ void stmatrix_x4(std::uint32_t address, const std::uint32_t (&words)[4]) {
  if constexpr (kTransposed) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(words[0]),
                 "r"(words[1]), "r"(words[2]), "r"(words[3])
                 : "memory");
  } else {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(words[0]),
                 "r"(words[1]), "r"(words[2]), "r"(words[3])
                 : "memory");
  }
}

}  // namespace triage::ptx
