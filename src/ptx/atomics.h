// Atomic operations on words in global memory that order other accesses, too (sm_70 and later).
#pragma once

#include <cstdint>

namespace triage::ptx {

/// Adds and returns what was there. What the threads wrote that released the value it finds is visible after.
__device__ __forceinline__ std::uint32_t add_acquire(std::uint32_t* word, std::uint32_t value) {
  std::uint32_t before;
  asm volatile("atom.acquire.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(word), "r"(value) : "memory");
  return before;
}

__device__ __forceinline__ std::uint32_t load_acquire(const std::uint32_t* word) {
  std::uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
}

/// Orders this thread's accesses, and what it has seen of others', before its next ones, for the whole GPU. (Cheaper
/// than
/// __threadfence(), which is sequentially consistent.)
__device__ __forceinline__ void fence_gpu() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

}  // namespace triage::ptx
