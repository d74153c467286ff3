// The planner of the sm90 kernels of spmm and linear: one thread per CTA that walks ahead of the producer.
//
// Everything that is slow to learn (which tile comes next, the records of its stages, the positions of their blocks)
// takes three or four dependent reads of global memory. A producer that waits for them between two tiles lets the
// pipeline run dry, so another warp does it: it takes tiles for the cluster and copies the records of their stages into
// a ring, a few stages ahead of producer and consumers and across the border between tiles. A tile is bound when the
// ring has room for its first stage: not earlier, because a tile taken early waits while other clusters run dry.
//
// | barrier   | arrivals                                       | completes when                                   |
// |-----------|------------------------------------------------|--------------------------------------------------|
// | landed[e] | 1 (planner) + bytes                            | the entry's record has arrived (with ids only)   |
// | full[e]   | 1 (planner) + bytes                            | the entry is complete                            |
// | empty[e]  | 1 (producer), and each consumer warp if the    | nobody needs the entry any more                  |
// |           | consumers read masks                           |                                                  |
#pragma once

#include <cstdint>

#include "device/pipeline.h"
#include "device/schedule.h"
#include "device/tile_scheduler.h"
#include "ptx/cluster.h"
#include "ptx/dependent_launch.h"
#include "ptx/mbarrier.h"
#include "ptx/shared_memory.h"
#include "ptx/tma.h"
#include "sparse_gemm/sm90_product.h"

namespace triage::sm90 {

/// @tparam kEntriesV stages ahead of the producer.
/// @tparam kIdsV most blocks in a stage whose positions in `values` the producer needs; 0: it needs none.
template <int kEntriesV, int kIdsV>
struct PlanRing {
  static constexpr int kEntries = kEntriesV;
  static constexpr bool kWithIds = kIdsV > 0;
  static constexpr int kIds = (kIdsV + 3 + 3) / 4 * 4;  ///< copies begin at multiples of 4
  StageRecord records[kEntries];
  alignas(16) std::int32_t ids[kWithIds ? kEntries : 1][kWithIds ? kIds : 4];
  std::int32_t token_tile[kEntries];  ///< -1: there are no more stages
  std::uint64_t landed[kEntries];
  std::uint64_t full[kEntries];
  std::uint64_t empty[kEntries];

  /// One thread per CTA. @param readers the producer thread and the warps that read masks.
  __device__ __forceinline__ void init(int readers) {
    for (int i = 0; i < kEntries; i++) {
      ptx::mbarrier_init(ptx::shared_address(&landed[i]), 1);
      ptx::mbarrier_init(ptx::shared_address(&full[i]), 1);
      ptx::mbarrier_init(ptx::shared_address(&empty[i]), readers);
    }
  }
};

/// One thread: all stages of all tiles of the CTA, one after the other.
template <int kCluster, typename Ring>
__device__ __forceinline__ void plan_stages(Ring& ring, device::TileRing& tiles, const ProductParams& params,
                                            int item_count) {
  constexpr int kLag = 4;  // stages between asking for a record and reading it for the positions of its blocks
  static_assert(!Ring::kWithIds || Ring::kEntries > kLag,
                "else the planner waits for a stage that it has not completed");
  ptx::wait_for_earlier_kernels();  // the counter
  device::TileFeeder<kCluster> feeder(tiles);
  device::TileReader<kCluster> reader(tiles);
  const ProductTiles order(params, item_count, static_cast<int>(gridDim.x) / kCluster);
  device::PipelineState<Ring::kEntries> next(1), next_ids(0);

  const auto fetch_ids = [&] {
    const int entry = next_ids.slot;
    const std::uint32_t full = ptx::shared_address(&ring.full[entry]);
    ptx::mbarrier_wait(ptx::shared_address(&ring.landed[entry]), next_ids.parity);
    ptx::barrier_expect(full, sizeof(ring.ids[0]));
    ptx::bulk_load(ptx::shared_address(ring.ids[entry]), params.block_order + ring.records[entry].first_block / 4 * 4,
                   sizeof(ring.ids[0]), full);
    next_ids.advance();
  };

  for (;;) {
    feeder.feed([&] { return order.take(); });
    feeder.advance();
    const device::TileInfo tile = reader.next_alone();
    if (tile.group < 0) break;
    const StageRecord* source = params.stages + tile.stage_begin;
    for (int s = 0; s < tile.stage_count; s++) {
      const int entry = next.slot;
      const std::uint32_t landed = ptx::shared_address(Ring::kWithIds ? &ring.landed[entry] : &ring.full[entry]);
      ptx::mbarrier_wait(ptx::shared_address(&ring.empty[entry]), next.parity);
      const std::uint32_t token_tile = ptx::shared_address(&ring.token_tile[entry]);
      ptx::store_shared_u32(token_tile, tile.token_tile);
      ptx::barrier_expect(ptx::after_store(landed, token_tile, tile.token_tile), sizeof(StageRecord));
      ptx::bulk_load(ptx::shared_address(&ring.records[entry]), source + s, sizeof(StageRecord), landed);
      next.advance();
      if (Ring::kWithIds && s >= kLag) fetch_ids();
    }
    if constexpr (Ring::kWithIds) {
      for (int s = 0; s < min(tile.stage_count, kLag); s++) fetch_ids();
    }
  }
  ptx::mbarrier_wait(ptx::shared_address(&ring.empty[next.slot]), next.parity);
  const std::uint32_t full = ptx::shared_address(&ring.full[next.slot]);
  const std::uint32_t token_tile = ptx::shared_address(&ring.token_tile[next.slot]);
  ptx::store_shared_u32(token_tile, 0xffffffffu);
  ptx::mbarrier_arrive(ptx::after_store(full, token_tile, 0xffffffffu));
}

/// The producer thread's view of the ring.
template <typename Ring>
class PlanReader {
 public:
  __device__ explicit PlanReader(Ring& ring) : ring_(ring) {}

  /// Waits for the next stage; false if there is none. Until `release`, `record` and `id` speak of it.
  __device__ bool next() {
    ptx::mbarrier_wait(ptx::shared_address(&ring_.full[state_.slot]), state_.parity);
    token_tile = *const_cast<const volatile std::int32_t*>(&ring_.token_tile[state_.slot]);
    return token_tile >= 0;
  }
  __device__ const StageRecord& record() const { return ring_.records[state_.slot]; }
  /// Position in `values` of the stage's i-th block.
  __device__ std::int32_t id(int i) const { return ring_.ids[state_.slot][record().first_block % 4 + i]; }
  /// The planner may overwrite the stage. Not before what was read has been used: a load that is still on its way may
  /// be overtaken by the arrival.
  __device__ void release() {
    ptx::mbarrier_arrive(ptx::shared_address(&ring_.empty[state_.slot]));
    state_.advance();
  }

  std::int32_t token_tile = 0;

 private:
  Ring& ring_;
  device::PipelineState<Ring::kEntries> state_{0};
};

/// A consumer warp's view: which blocks of its rows are in a stage. The values are uniform in the warp.
/// @tparam kRows block rows of a consumer warpgroup.
template <typename Ring, int kRows>
class MaskReader {
 public:
  __device__ MaskReader(Ring& ring, int group, int lane) : ring_(ring), group_(group), lane_(lane) {}

  /// Waits for the next stage and reads its masks; shuffles tell the compiler that they are uniform.
  __device__ __forceinline__ void next() {
    ptx::mbarrier_wait(ptx::shared_address(&ring_.full[state_.slot]), state_.parity);
    const auto* words = reinterpret_cast<const volatile std::uint32_t*>(&ring_.records[state_.slot]);
    const std::uint32_t mine = words[lane_ % 16];
    const auto word = [&](int i) { return __shfl_sync(0xffffffffu, mine, i); };
    block_count = word(0) >> 8 & 0xff;
    first_block = word(2) >> 8 * group_ & 0xff;
#pragma unroll
    for (int r = 0; r < kRows; r++) {
      const int row = group_ * kRows + r;
      masks[r] = word(4 + row / 2) >> 16 * (row % 2) & 0xffff;
    }
    // The address depends on what was read (StageRecord::reserved, 0), so that the arrival does not overtake the load.
    const std::uint32_t empty = ptx::shared_address(&ring_.empty[state_.slot]) + (word(0) >> 16);
    if (lane_ == 0) ptx::mbarrier_arrive(empty);
    state_.advance();
  }

  std::uint32_t masks[kRows];  ///< of columns
  int first_block;             ///< of this group's blocks, relative to the stage's
  int block_count;             ///< of the whole stage

 private:
  Ring& ring_;
  device::PipelineState<Ring::kEntries> state_{0};
  int group_, lane_;
};

}  // namespace triage::sm90
