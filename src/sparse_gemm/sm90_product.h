// What the sm90 kernels of spmm and linear share: parameters, the map of tiles, and the producer's view of the schedule.
//
// A tile is one work item of the schedule (a group of block rows, or a piece of a long one) times kTokens columns of the
// dense operand ("tokens": columns of B for spmm, rows of X for linear). The CTAs of a cluster take neighbouring token
// tiles of one item.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "device/epilogue.h"
#include "device/schedule.h"
#include "device/tile_scheduler.h"
#include "ptx/cluster.h"
#include "ptx/mbarrier.h"
#include "ptx/tma.h"
#include "triage/types.h"

namespace triage::sm90 {

inline constexpr int kConsumerGroups = 2;              ///< consumer warpgroups per CTA
inline constexpr int kThreads = 128 * (kConsumerGroups + 1);
inline constexpr int kProducerRegisters = 40;          ///< 24 spill with multicast
inline constexpr int kConsumerRegisters = 232;

/// Parameters besides the tensor maps.
struct ProductParams {
  const StageRecord* stages = nullptr;
  const std::int32_t* block_order = nullptr;
  const WorkItem* items = nullptr;
  const std::int32_t* item_count = nullptr;
  const SplitGroup* splits = nullptr;
  const std::int32_t* split_count = nullptr;
  const void* packed = nullptr;         ///< values in schedule order, swizzled (blocks of 16 and 32)
  float* partial = nullptr;             ///< sums of split items
  std::int32_t* tile_counter = nullptr; ///< zero before the launch
  std::int32_t token_tiles = 0;         ///< cluster tiles along the tokens
  std::int32_t panel_tiles = 1;         ///< of these, how many form a panel that is finished before the next one
  bool sliced_dense = true;             ///< spmm: the dense map has three dimensions in use (device/tensor_map.h)
  std::int32_t out_cols = 0;            ///< columns of the output (the bias's length)
  const void* bias = nullptr;
  float alpha = 1.0f, beta = 0.0f;
  Activation activation = Activation::none;
  ptx::L2Policy dense_policy = ptx::L2Policy::normal, values_policy = ptx::L2Policy::normal,
                out_policy = ptx::L2Policy::normal;
};

/// Takes the next tile. Panels of token tiles are outermost, then items (longest first), then the token tiles of the panel:
/// a panel of the dense operand stays in L2 while all items pass over it.
__device__ inline device::TileInfo take_product_tile(const ProductParams& params, int item_count) {
  const int tile = atomicAdd(params.tile_counter, 1);
  if (tile >= item_count * params.token_tiles) return {-1, 0, 0, -1, 0};
  const int per_panel = item_count * params.panel_tiles;
  const int panel = tile / per_panel;
  const int rest = tile - panel * per_panel;
  const int width = min(params.panel_tiles, params.token_tiles - panel * params.panel_tiles);
  const WorkItem item = params.items[rest / width];
  return {item.group, item.stage_begin, item.stage_count, item.split_slot, panel * params.panel_tiles + rest % width};
}

/// Stage records, and where asked for the positions of their blocks, on their way to the producer thread. They are small,
/// scattered and needed at once, so they are copied some stages ahead, across the border to the next tile.
struct StageRing {
  static constexpr int kEntries = 8;
  static constexpr int kIds = 20;  ///< up to 16 blocks of a stage, from a multiple of 4 on
  StageRecord records[kEntries];
  alignas(16) std::int32_t ids[kEntries][kIds];
  std::uint64_t record_full[kEntries];
  std::uint64_t ids_full[kEntries];
  std::int32_t token_tile[kEntries];
};

__device__ __forceinline__ void stage_ring_init(StageRing& ring) {
  for (int i = 0; i < StageRing::kEntries; i++) {
    ptx::mbarrier_init(ptx::shared_address(&ring.record_full[i]), 1);
    ptx::mbarrier_init(ptx::shared_address(&ring.ids_full[i]), 1);
  }
}

/// The producer thread's view of all stages of all tiles of its CTA, one after the other.
///
/// One thread, because issuing a bulk copy from one thread's registers costs some ten cycles; spread over a warp, with a
/// shuffle and an election or a loop over lanes for each, it costs about a hundred and the producer becomes the bottleneck.
///
/// At most one tile beyond that of the current stage is bound. If more were, this thread could wait for room in the tile
/// ring, the consumers for stages that it has fetched but not issued, and nobody would go on.
template <int kCluster, bool kWithIds>
class StageStream {
 public:
  struct Stage {
    const StageRecord* record;  ///< nullptr: no more stages
    const std::int32_t* ids;    ///< positions in `values` of the stage's blocks
    int token_tile;
  };

  __device__ StageStream(StageRing& ring, device::TileRing& tiles, const ProductParams& params, int item_count)
      : ring_(ring), feeder_(tiles), reader_(tiles), params_(params), item_count_(item_count) {}

  /// The next stage; valid until the next call.
  __device__ Stage next() {
    while (fetched_ - current_ < StageRing::kEntries && (left_ > 0 || bind())) fetch_record();
    if (current_ == fetched_) return {nullptr, nullptr, 0};
    if constexpr (kWithIds) {
      while (ids_fetched_ < fetched_ && ids_fetched_ - current_ < kIdsAhead) fetch_ids();
    }
    const int entry = current_ % StageRing::kEntries;
    const std::uint32_t parity = current_ / StageRing::kEntries % 2;
    ptx::mbarrier_wait(ptx::shared_address(&ring_.record_full[entry]), parity);
    if constexpr (kWithIds) ptx::mbarrier_wait(ptx::shared_address(&ring_.ids_full[entry]), parity);
    current_++;
    return {&ring_.records[entry], ring_.ids[entry] + ring_.records[entry].first_block % 4, ring_.token_tile[entry]};
  }

 private:
  static constexpr unsigned kIdsAhead = 4;

  // Binds the next tile if that is allowed now; false if there is nothing to fetch.
  __device__ bool bind() {
    while (!ended_ && static_cast<int>(current_ - tile_begin_) >= 0) {
      feeder_.feed([&] { return take_product_tile(params_, item_count_); });
      const device::TileInfo info = reader_.next_alone();
      ended_ = info.group < 0;
      left_ = info.stage_count;
      source_ = params_.stages + info.stage_begin;
      token_tile_ = info.token_tile;
      tile_begin_ = fetched_;
      if (left_ > 0) return true;
    }
    return false;
  }
  __device__ void fetch_record() {
    const int entry = fetched_ % StageRing::kEntries;
    const std::uint32_t full = ptx::shared_address(&ring_.record_full[entry]);
    ptx::barrier_expect(full, sizeof(StageRecord));
    ptx::bulk_load(ptx::shared_address(&ring_.records[entry]), source_, sizeof(StageRecord), full);
    ring_.token_tile[entry] = token_tile_;
    source_++;
    left_--;
    fetched_++;
  }
  __device__ void fetch_ids() {
    const int entry = ids_fetched_ % StageRing::kEntries;
    ptx::mbarrier_wait(ptx::shared_address(&ring_.record_full[entry]), ids_fetched_ / StageRing::kEntries % 2);
    const std::uint32_t full = ptx::shared_address(&ring_.ids_full[entry]);
    ptx::barrier_expect(full, sizeof(ring_.ids[0]));
    ptx::bulk_load(ptx::shared_address(ring_.ids[entry]), params_.block_order + ring_.records[entry].first_block / 4 * 4,
                   sizeof(ring_.ids[0]), full);
    ids_fetched_++;
  }

  StageRing& ring_;
  device::TileFeeder<kCluster> feeder_;
  device::TileReader<kCluster> reader_;
  const ProductParams& params_;
  const int item_count_;
  unsigned current_ = 0, fetched_ = 0, ids_fetched_ = 0;  // stages since the start
  unsigned tile_begin_ = 0;                               // first stage of the tile that was bound last
  int left_ = 0;                                          // of its stages, not yet fetched
  const StageRecord* source_ = nullptr;
  int token_tile_ = 0;
  bool ended_ = false;
};

/// The first kColumns block columns of a record, read at once.
template <int kColumns>
struct RecordColumns {
  int column[(kColumns + 3) / 4 * 4];

  __device__ explicit RecordColumns(const StageRecord& record) {
#pragma unroll
    for (int i = 0; i < (kColumns + 3) / 4; i++) {
      reinterpret_cast<int4*>(column)[i] = reinterpret_cast<const int4*>(record.column)[i];
    }
  }
};

/// What a consumer warpgroup needs of a stage: a mask of columns for each of its block rows, and where its blocks begin.
/// Every warp reads the records itself, two or more stages ahead; a register holds the first halves of two records.
template <int kRows>
class MaskStream {
 public:
  __device__ MaskStream(int group, int lane) : group_(group), lane_(lane) {}

  /// Starts reading an item's records.
  __device__ void open(const StageRecord* first) {
    source_ = reinterpret_cast<const std::uint32_t*>(first) + lane_ / 16 * 32 + lane_ % 16;
    pair_ = source_[0];
    next_pair_ = source_[64];
    source_ += 128;
    half_ = 0;
  }
  /// Moves on to the next stage's record.
  __device__ void advance() {
    half_ ^= 16;
    if (half_ == 0) {
      pair_ = next_pair_;
      next_pair_ = source_[0];
      source_ += 64;
    }
    decode();
  }
  /// Makes the masks of the record at hand; `open` leaves it to the caller, `advance` does it.
  __device__ void decode() {
    block_count = word(0) >> 8 & 0xff;
    first_block = word(2) >> 8 * group_ & 0xff;
#pragma unroll
    for (int r = 0; r < kRows; r++) {
      const int row = group_ * kRows + r;
      masks[r] = word(4 + row / 2) >> 16 * (row % 2) & 0xffff;
    }
  }

  std::uint32_t masks[kRows];
  int first_block;  ///< of this group's blocks, relative to the stage's
  int block_count;  ///< of the whole stage

 private:
  __device__ std::uint32_t word(int i) const { return __shfl_sync(0xffffffffu, pair_, half_ + i); }

  int group_, lane_, half_ = 0;
  std::uint32_t pair_ = 0, next_pair_ = 0;
  const std::uint32_t* source_ = nullptr;
};

/// The bias of an output column, 0 from `count` on. (Choosing with a branch around all loads whether there is a bias makes
/// ptxas see accumulators defined on two paths and serialise wgmma: C7515.)
template <typename Element>
__device__ __forceinline__ float bias_at(const ProductParams& params, int col, int count) {
  return col < count ? device::to_float(static_cast<const Element*>(params.bias)[col]) : 0.0f;
}

}  // namespace triage::sm90
