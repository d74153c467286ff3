// Which tile a cluster of CTAs computes next. Persistent clusters take tiles from a counter in global memory, so that one
// long tile delays nobody: tiles come longest first, what is left at the end is short. Without a counter, tiles are dealt
// out in turns, back and forth (the cluster that got the longest of one turn gets the shortest of the next).
//
// Barriers of the ring that carries tile numbers from the leader CTA's producer to everybody:
//   full[i]  (each CTA's own): 1 arrival, of that CTA's producer, and in clusters 4 bytes stored by the leader
//   empty[i] (the leader's):   every warp of the cluster that calls `next`, once it has read the entry
#pragma once

#include <cstdint>

#include "ptx/cluster.h"
#include "ptx/mbarrier.h"

namespace triage::device {

struct TileRing {
  static constexpr int kEntries = 4;
  std::uint64_t full[kEntries];
  std::uint64_t empty[kEntries];
  std::int32_t tile[kEntries];
};

/// One thread per CTA. @param readers warps in the cluster that call `next`.
__device__ __forceinline__ void tile_ring_init(TileRing& ring, int readers) {
  for (int i = 0; i < TileRing::kEntries; i++) {
    ptx::mbarrier_init(ptx::shared_address(&ring.full[i]), 1);
    ptx::mbarrier_init(ptx::shared_address(&ring.empty[i]), readers);
  }
}

/// Every warp that works on tiles owns one.
/// @tparam kDynamic whether there is a counter (a run-time choice makes the tile look divergent, and wgmma is serialised).
template <int kCluster, bool kDynamic>
class TileScheduler {
 public:
  /// @param counter zero before the launch; unused if not kDynamic.
  __device__ TileScheduler(TileRing& ring, std::int32_t* counter) : ring_(ring), counter_(counter) {}

  /// Producer warps call it once before the first `next` and again after each `next` that gave a tile.
  __device__ void fetch(int lane) {
    if (!kDynamic || lane != 0) return;
    const std::uint32_t full = ptx::shared_address(&ring_.full[fetched_]);
    const std::uint32_t empty = ptx::shared_address(&ring_.empty[fetched_]);
    if constexpr (kCluster == 1) {
      ptx::mbarrier_wait(empty, fetched_parity_);
      *const_cast<volatile std::int32_t*>(&ring_.tile[fetched_]) = atomicAdd(counter_, 1);
      ptx::mbarrier_arrive(full);
    } else {
      ptx::barrier_expect(full, 4);
      if (ptx::cluster_cta_rank() == 0) {
        ptx::mbarrier_wait(empty, fetched_parity_);
        const int tile = atomicAdd(counter_, 1);
        const std::uint32_t entry = ptx::shared_address(&ring_.tile[fetched_]);
#pragma unroll
        for (int cta = 0; cta < kCluster; cta++) {
          ptx::cluster_store_word(ptx::cluster_address(entry, cta), tile, ptx::cluster_address(full, cta));
        }
      }
    }
    if (++fetched_ == TileRing::kEntries) {
      fetched_ = 0;
      fetched_parity_ ^= 1;
    }
  }

  /// The next tile, the same for all lanes of the warp. Whoever gets one past the last calls it no more.
  __device__ int next(int lane) {
    int tile;
    if constexpr (!kDynamic) {
      const int clusters = gridDim.x / kCluster, cluster = blockIdx.x / kCluster;
      tile = turn_ * clusters + (turn_ % 2 != 0 ? clusters - 1 - cluster : cluster);
      turn_++;
    } else {
      ptx::mbarrier_wait(ptx::shared_address(&ring_.full[entry_]), parity_);
      tile = *const_cast<volatile std::int32_t*>(&ring_.tile[entry_]);
      __syncwarp();
      if (lane == 0) {
        const std::uint32_t empty = ptx::shared_address(&ring_.empty[entry_]);
        if constexpr (kCluster > 1) {
          ptx::cluster_arrive(ptx::cluster_address(empty, 0));
        } else {
          ptx::mbarrier_arrive(empty);
        }
      }
      if (++entry_ == TileRing::kEntries) {
        entry_ = 0;
        parity_ ^= 1;
      }
    }
    return __shfl_sync(0xffffffffu, tile, 0);  // tells the compiler that it is uniform, which wgmma's loops need
  }

 private:
  TileRing& ring_;
  std::int32_t* counter_;
  int entry_ = 0, fetched_ = 0, turn_ = 0;
  std::uint32_t parity_ = 0, fetched_parity_ = 1;
};

}  // namespace triage::device
