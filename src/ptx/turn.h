// Counters in global memory by which CTAs take turns (sm_70 and later).
#pragma once

namespace triage::ptx {

/// Adds 1, after all that this thread has written or has seen written (by the CTA before a barrier, say): who reads the
/// sum by `load_turn` sees that as well.
__device__ __forceinline__ void pass_turn(int* turn) {
  asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(turn) : "memory");
}

__device__ __forceinline__ int load_turn(const int* turn) {
  int value;
  asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(turn) : "memory");
  return value;
}

/// The same without waiting for its effect on other memory: a look ahead.
__device__ __forceinline__ int peek_turn(const int* turn) {
  int value;
  asm volatile("ld.relaxed.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(turn) : "memory");
  return value;
}

}  // namespace triage::ptx
