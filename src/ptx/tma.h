// TMA: bulk copies by the copy engine, between global and shared memory, counted by an mbarrier (sm_90 and later).
// Our own forms because cuda::ptx (CUDA 13.0) takes no L2 cache policy; shared memory by 32-bit address as in mbarrier.h.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace triage::ptx {

/// L2 policies as createpolicy makes them: what to keep, what to drop first.
enum class L2Policy : std::uint64_t { normal = 0x1000000000000000, evict_first = 0x12F0000000000000, evict_last = 0x14F0000000000000 };

/// Brings a tensor map into the descriptor cache.
__device__ __forceinline__ void tma_prefetch(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/// Loads the box whose first element is (x, y), x counting along the contiguous dimension. What lies outside of the
/// tensor becomes 0. The barrier's transaction count falls by the box's bytes.
__device__ __forceinline__ void tma_load(std::uint32_t destination, const CUtensorMap* map, std::uint32_t barrier, int x,
                                         int y, L2Policy policy = L2Policy::normal) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %4}], [%2], %5;" ::"r"(destination),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "l"(static_cast<std::uint64_t>(policy))
      : "memory");
}

/// A box of a tensor of three dimensions.
__device__ __forceinline__ void tma_load_3d(std::uint32_t destination, const CUtensorMap* map, std::uint32_t barrier, int x,
                                            int y, int z, L2Policy policy = L2Policy::normal) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(destination),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "l"(static_cast<std::uint64_t>(policy))
      : "memory");
}

/// The two-dimensional load, delivered to the same place in every CTA of the cluster whose bit is set in `ctas`, each counted by its own
/// barrier.
__device__ __forceinline__ void tma_load_multicast(std::uint32_t destination, const CUtensorMap* map,
                                                   std::uint32_t barrier, int x, int y, std::uint16_t ctas,
                                                   L2Policy policy = L2Policy::normal) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint "
      "[%0], [%1, {%3, %4}], [%2], %5, %6;" ::"r"(destination),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "h"(ctas), "l"(static_cast<std::uint64_t>(policy))
      : "memory");
}

/// Writes a box; what lies outside of the tensor is not written.
__device__ __forceinline__ void tma_store(const CUtensorMap* map, std::uint32_t source, int x, int y,
                                          L2Policy policy = L2Policy::normal) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group.L2::cache_hint [%0, {%2, %3}], [%1], %4;" ::"l"(map),
               "r"(source), "r"(x), "r"(y), "l"(static_cast<std::uint64_t>(policy))
               : "memory");
}

/// A box of a tensor of five dimensions.
__device__ __forceinline__ void tma_load_5d(std::uint32_t destination, const CUtensorMap* map, std::uint32_t barrier, int c0,
                                            int c1, int c2, int c3, int c4) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(
          destination),
      "l"(map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
      : "memory");
}

__device__ __forceinline__ void tma_store_5d(const CUtensorMap* map, std::uint32_t source, int c0, int c1, int c2, int c3,
                                             int c4) {
  asm volatile("cp.async.bulk.tensor.5d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5, %6}], [%1];" ::"l"(map),
               "r"(source), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
               : "memory");
}

/// Copies `bytes` (a multiple of 16, both ends aligned to 16) as they are.
__device__ __forceinline__ void bulk_load(std::uint32_t destination, const void* source, std::uint32_t bytes,
                                          std::uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(destination),
               "l"(source), "r"(bytes), "r"(barrier)
               : "memory");
}

__device__ __forceinline__ void bulk_load_multicast(std::uint32_t destination, const void* source, std::uint32_t bytes,
                                                    std::uint32_t barrier, std::uint16_t ctas) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;" ::"r"(
          destination),
      "l"(source), "r"(bytes), "r"(barrier), "h"(ctas)
      : "memory");
}

__device__ __forceinline__ void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

/// Waits until at most `kPending` groups of this thread's stores have not yet read their shared memory.
template <int kPending>
__device__ __forceinline__ void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

/// Waits until all of this thread's stores are complete.
__device__ __forceinline__ void bulk_wait_all() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

/// Shared memory written by ordinary stores before is visible to the copy engine and to wgmma after.
__device__ __forceinline__ void fence_async_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace triage::ptx
