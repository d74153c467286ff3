// elect.sync: one lane of a converged warp (sm_90 and later).
#pragma once

#include <cstdint>

namespace triage::ptx {

/// True for one lane. Unlike `lane == 0` it tells the compiler that a single thread is active, so that TMA instructions in
/// the branch are issued as they are; otherwise each stands in a loop over the active lanes.
__device__ __forceinline__ bool elect_one() {
  std::uint32_t elected;
  asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(elected));
  return elected != 0;
}

}  // namespace triage::ptx
