// Requests ahead of need, whose result nobody waits for.
#pragma once

namespace triage::ptx {

/// The line of a global address, into L1.
__device__ __forceinline__ void prefetch_l1(const void* address) {
  asm volatile("prefetch.global.L1 [%0];" ::"l"(address));
}

}  // namespace triage::ptx
