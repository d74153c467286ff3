// Bulk copies out of shared memory by the copy engine: to global memory, added to it, and into a neighbour's shared
// memory (sm_90 and later). Loads: tma.h.
#pragma once

#include <cstdint>

namespace triage::ptx {

/// Copies `bytes` (a multiple of 16) to global memory. Part of this thread's current bulk group (bulk_commit).
__device__ __forceinline__ void bulk_store(void* destination, std::uint32_t source, std::uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(destination), "r"(source), "r"(bytes)
               : "memory");
}

/// Adds `bytes` (a multiple of 16) of floats to global memory, each addition by itself atomic. Part of this thread's
/// current bulk group (bulk_commit).
__device__ __forceinline__ void bulk_add(float* destination, std::uint32_t source, std::uint32_t bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(destination),
               "r"(source), "r"(bytes)
               : "memory");
}

/// Copies `bytes` (a multiple of 16) into the shared memory of a CTA of the cluster and counts them off its barrier.
/// Both addresses are cluster_address()es. The source may be written again once the barrier has completed.
__device__ __forceinline__ void bulk_send(std::uint32_t cluster_destination, std::uint32_t source, std::uint32_t bytes,
                                          std::uint32_t cluster_barrier) {
  asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   cluster_destination),
               "r"(source), "r"(bytes), "r"(cluster_barrier)
               : "memory");
}

/// Waits until at most `kPending` groups of this thread's stores and additions are not complete.
template <int kPending>
__device__ __forceinline__ void bulk_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Orders what the copy engine does to global memory and what this thread does by ordinary accesses.
__device__ __forceinline__ void fence_async_global() { asm volatile("fence.proxy.async.global;" ::: "memory"); }

}  // namespace triage::ptx
