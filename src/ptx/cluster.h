// Thread block clusters: barriers, and shared memory of the neighbouring CTAs (sm_90 and later).
#pragma once

#include <cstdint>

namespace triage::ptx {

__device__ __forceinline__ std::uint32_t cluster_cta_rank() {
  std::uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

/// All threads of the cluster; shared memory written before is visible after.
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

/// The same for threads of a warp that have diverged.
__device__ __forceinline__ void cluster_sync_unaligned() {
  asm volatile("barrier.cluster.arrive;\nbarrier.cluster.wait;" ::: "memory");
}

/// Where this CTA's shared address lies in CTA `rank` of the cluster.
__device__ __forceinline__ std::uint32_t cluster_address(std::uint32_t shared_address, std::uint32_t rank) {
  std::uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address), "r"(rank));
  return address;
}

/// Reads a float in the shared memory of another CTA, see cluster_address.
__device__ __forceinline__ float cluster_load_float(std::uint32_t cluster_source) {
  float x;
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(cluster_source) : "memory");
  return x;
}

/// mbarrier_init by this thread becomes visible to the cluster and to the copy engine.
__device__ __forceinline__ void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// Arrives at a barrier of another CTA. For barriers that guard what only wgmma has read: the form that releases ordinary
/// accesses to the cluster (.release.cluster) puts a GPU-wide memory barrier before each arrive and halves the rate.
__device__ __forceinline__ void cluster_arrive(std::uint32_t cluster_barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(cluster_barrier) : "memory");
}

/// Arrives at a barrier of this CTA and announces `bytes` that bulk copies will count off.
__device__ __forceinline__ void barrier_expect(std::uint32_t barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

/// Stores a word in another CTA's shared memory and counts 4 bytes off its barrier.
__device__ __forceinline__ void cluster_store_word(std::uint32_t cluster_destination, std::uint32_t word,
                                                   std::uint32_t cluster_barrier) {
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(cluster_destination),
               "r"(word), "r"(cluster_barrier)
               : "memory");
}

}  // namespace triage::ptx
