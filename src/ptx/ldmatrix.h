// ldmatrix: a warp loads 8x8 tiles of 16-bit elements from shared memory in the layout of mma.sync (sm_75 and later).
#pragma once

#include <cstdint>

namespace triage::ptx {

/// Four 8x8 tiles. Lanes 8i .. 8i + 7 give the addresses of the eight 16-byte rows of tile i; r[i] holds its elements:
/// lane l has row l / 4, columns 2 (l % 4) and the next. With kTranspose: column l / 4, rows 2 (l % 4) and the next.
template <bool kTranspose>
__device__ __forceinline__ void ldmatrix_x4(std::uint32_t (&r)[4], std::uint32_t address) {
  if constexpr (kTranspose) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }
}

}  // namespace triage::ptx
