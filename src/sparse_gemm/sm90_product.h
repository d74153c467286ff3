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
#include "ptx/cp_async.h"
#include "ptx/elect.h"
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

/// Stage records on their way to the producer warp. They are small, scattered and needed at once, so the warp copies them
/// seven stages ahead; then one thread reads them. (A shuffle and an election per copy would make the producer the
/// bottleneck: issuing a bulk copy costs some ten cycles from one thread's registers, about a hundred that way.)
struct RecordRing {
  static constexpr int kEntries = 8;
  StageRecord records[kEntries];
};

class RecordStream {
 public:
  __device__ RecordStream(RecordRing& ring, int lane) : ring_(ring), lane_(lane) {}

  /// Before the first `next` of an item.
  __device__ void open(const StageRecord* first) {
    ptx::cp_async_wait_all();  // what was fetched behind the end of the item before
    __syncwarp();
    source_ = reinterpret_cast<const std::uint32_t*>(first) + lane_;
    entry_ = 0;
#pragma unroll
    for (int i = 0; i < RecordRing::kEntries - 1; i++) fetch(i);
  }

  /// The next record, until the next call. What lies behind an item's last record is readable.
  __device__ const StageRecord& next() {
    fetch((entry_ + RecordRing::kEntries - 1) % RecordRing::kEntries);
    ptx::cp_async_wait_pending<RecordRing::kEntries - 1>();
    __syncwarp();
    const StageRecord& record = ring_.records[entry_];
    entry_ = (entry_ + 1) % RecordRing::kEntries;
    return record;
  }

 private:
  __device__ void fetch(int entry) {
    const auto* words = reinterpret_cast<const std::uint32_t*>(&ring_.records[entry]);
    ptx::cp_async_4_zero_fill(ptx::shared_address(words + lane_), source_, 4);
    ptx::cp_async_commit();
    source_ += 32;
  }

  RecordRing& ring_;
  int lane_, entry_ = 0;
  const std::uint32_t* source_ = nullptr;
};

/// The producer warp's walk through the tiles. The next tile is bound when few stages of the current one are left.
template <int kCluster>
class TileWalk {
 public:
  __device__ TileWalk(device::TileRing& ring, const ProductParams& params, int item_count, int lane)
      : feeder_(ring), reader_(ring), params_(params), item_count_(item_count), lane_(lane) {
    feed();
  }

  /// The next tile.
  __device__ device::TileInfo next() {
    const device::TileInfo tile = reader_.next(lane_);
    feed_at_ = max(tile.stage_count - kStagesAhead, 0);
    if (tile.group >= 0 && tile.stage_count == 0) feed();
    return tile;
  }
  /// Before stage `s` of the tile.
  __device__ void at_stage(int s) {
    if (s == feed_at_) feed();
  }

 private:
  static constexpr int kStagesAhead = 8;

  __device__ void feed() {
    if (ptx::elect_one()) feeder_.feed([&] { return take_product_tile(params_, item_count_); });
    feeder_.advance();
    __syncwarp();
  }

  device::TileFeeder<kCluster> feeder_;
  device::TileReader<kCluster> reader_;
  const ProductParams& params_;
  const int item_count_, lane_;
  int feed_at_ = 0;
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
