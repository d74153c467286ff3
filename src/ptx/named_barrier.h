// barrier.sync with an id: a barrier among some warps of a CTA (sm_70 and later).
#pragma once

namespace triage::ptx {

/// Waits until `threads` threads of the CTA (whole warps) have come here; `id` 1 to 15.
__device__ __forceinline__ void named_barrier(int id, int threads) {
  asm volatile("barrier.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// Counts as arrived without waiting; memory written before is visible to those who wait.
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
  asm volatile("barrier.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

}  // namespace triage::ptx
