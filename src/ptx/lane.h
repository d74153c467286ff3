// The lane's number within its warp.
#pragma once

namespace triage::ptx {

/// Read anew each time: a compiler that keeps what follows from it in registers may lack them elsewhere.
__device__ __forceinline__ int lane_id() {
  int lane;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

}  // namespace triage::ptx
