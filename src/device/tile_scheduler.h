// Which tile a cluster of CTAs computes next. Persistent clusters take tiles from a counter in global memory, so that
// one long tile delays nobody: tiles come longest first, what is left at the end is short. A tile is bound late, when
// the producer needs it, because a tile taken early waits behind the one before it while other clusters run dry.
//
// One thread of the leader CTA takes a number, turns it into a description of the tile, and stores that into a ring in
// the shared memory of every CTA of the cluster.
//
//   full[i]  (each CTA's own): 1 arrival, of that CTA's feeder, and in a cluster the bytes that the leader stores
//   empty[i] (the leader's):   every reader of the cluster, once it has read the entry
#pragma once

#include <cstdint>

#include "ptx/cluster.h"
#include "ptx/mbarrier.h"
#include "ptx/shared_memory.h"

namespace triage::device {

/// What everybody needs to know of a tile.
struct TileInfo {
  static constexpr int kWords = 5;
  std::int32_t group;  ///< -1: there are no more tiles
  std::int32_t stage_begin;
  std::int32_t stage_count;
  std::int32_t split_slot;  ///< -1: the whole group
  std::int32_t token_tile;
};
static_assert(sizeof(TileInfo) == 4 * TileInfo::kWords, "stored word by word");

struct TileRing {
  static constexpr int kEntries = 4;
  std::uint64_t full[kEntries];
  std::uint64_t empty[kEntries];
  TileInfo info[kEntries];
};

/// One thread per CTA. @param readers in the cluster: warps that call `next` and threads that call `next_alone`.
__device__ __forceinline__ void tile_ring_init(TileRing& ring, int readers) {
  for (int i = 0; i < TileRing::kEntries; i++) {
    ptx::mbarrier_init(ptx::shared_address(&ring.full[i]), 1);
    ptx::mbarrier_init(ptx::shared_address(&ring.empty[i]), readers);
  }
}

/// Takes tiles for the cluster, for the producer of each CTA. One thread calls `feed`; all that own the feeder call
/// `advance`.
template <int kCluster>
class TileFeeder {
 public:
  __device__ explicit TileFeeder(TileRing& ring) : ring_(ring) {}

  /// Binds the next tile. `take()` returns its TileInfo; only the leader calls it.
  template <typename Take>
  __device__ void feed(const Take& take) {
    const std::uint32_t full = ptx::shared_address(&ring_.full[entry_]);
    const std::uint32_t empty = ptx::shared_address(&ring_.empty[entry_]);
    const std::uint32_t place = ptx::shared_address(&ring_.info[entry_]);
    if constexpr (kCluster == 1) {
      ptx::mbarrier_wait(empty, parity_);
      const Words words(take());
#pragma unroll
      for (int i = 0; i < TileInfo::kWords; i++) ptx::store_shared_u32(place + 4 * i, words.word[i]);
      constexpr int kLast = TileInfo::kWords - 1;
      ptx::mbarrier_arrive(ptx::after_store(full, place + 4 * kLast, words.word[kLast]));
    } else {
      // Into the neighbours' memory, by stores that their barriers count.
      ptx::barrier_expect(full, sizeof(TileInfo));
      if (ptx::cluster_cta_rank() != 0) return;
      ptx::mbarrier_wait(empty, parity_);
      const Words words(take());
#pragma unroll
      for (int cta = 0; cta < kCluster; cta++) {
        const std::uint32_t to = ptx::cluster_address(place, cta), barrier = ptx::cluster_address(full, cta);
#pragma unroll
        for (int i = 0; i < TileInfo::kWords; i++) ptx::cluster_store_word(to + 4 * i, words.word[i], barrier);
      }
    }
  }
  __device__ void advance() {
    if (++entry_ == TileRing::kEntries) {
      entry_ = 0;
      parity_ ^= 1;
    }
  }

 private:
  struct Words {
    __device__ explicit Words(const TileInfo& info)
        : word{info.group, info.stage_begin, info.stage_count, info.split_slot, info.token_tile} {}
    std::int32_t word[TileInfo::kWords];
  };

  TileRing& ring_;
  int entry_ = 0;
  std::uint32_t parity_ = 1;
};

/// Every warp that works on tiles owns one, and the producer thread. Whoever got a tile with group -1 reads no more.
template <int kCluster>
class TileReader {
 public:
  __device__ explicit TileReader(TileRing& ring) : ring_(ring) {}

  /// For a warp: the next tile, the same for all lanes.
  __device__ TileInfo next(int lane) {
    ptx::mbarrier_wait(ptx::shared_address(&ring_.full[entry_]), parity_);
    const auto* words = reinterpret_cast<const volatile std::int32_t*>(&ring_.info[entry_]);
    const std::int32_t word = words[lane % TileInfo::kWords];
    __syncwarp();
    if (lane == 0) release();
    advance();
    // Shuffles tell the compiler that the tile is uniform, which loops around wgmma need.
    return {__shfl_sync(0xffffffffu, word, 0), __shfl_sync(0xffffffffu, word, 1), __shfl_sync(0xffffffffu, word, 2),
            __shfl_sync(0xffffffffu, word, 3), __shfl_sync(0xffffffffu, word, 4)};
  }

  /// For a single thread.
  __device__ TileInfo next_alone() {
    ptx::mbarrier_wait(ptx::shared_address(&ring_.full[entry_]), parity_);
    const auto* words = reinterpret_cast<const volatile std::int32_t*>(&ring_.info[entry_]);
    const TileInfo info{words[0], words[1], words[2], words[3], words[4]};
    release();
    advance();
    return info;
  }

 private:
  __device__ void release() {
    const std::uint32_t empty = ptx::shared_address(&ring_.empty[entry_]);
    if constexpr (kCluster > 1) {
      ptx::cluster_arrive(ptx::cluster_address(empty, 0));
    } else {
      ptx::mbarrier_arrive(empty);
    }
  }
  __device__ void advance() {
    if (++entry_ == TileRing::kEntries) {
      entry_ = 0;
      parity_ ^= 1;
    }
  }

  TileRing& ring_;
  int entry_ = 0;
  std::uint32_t parity_ = 0;
};

}  // namespace triage::device
