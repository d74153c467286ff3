// Loads of what is read once: constant for the whole kernel, and not worth a place in L1 (sm_80 and later).
#pragma once

#include <cstdint>

namespace triage::ptx {

/// 16 bytes from an address that is a multiple of 16; asks L2 to fetch the 256 bytes around them.
__device__ __forceinline__ uint4 stream_load_16(const void* address) {
  uint4 x;
  asm("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
      : "l"(address));
  return x;
}

}  // namespace triage::ptx
