// What the sm90 kernels of spmm and linear share: parameters, the map of tiles, and the producer's view of the
// schedule.
//
// A tile is one work item of the schedule (a group of block rows, or a piece of a long one) times kTokens columns of
// the dense operand ("tokens": columns of B for spmm, rows of X for linear). The CTAs of a cluster take neighbouring
// token tiles of one item.
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
#include "ptx/prefetch.h"
#include "ptx/tma.h"
#include "triage/types.h"

namespace triage::sm90 {

inline constexpr int kConsumerGroups = 2;  ///< consumer warpgroups per CTA
inline constexpr int kThreads = 128 * (kConsumerGroups + 1);
inline constexpr int kProducerRegisters = 40;  ///< 24 spill with multicast
inline constexpr int kConsumerRegisters = 232;

/// Parameters besides the tensor maps.
struct ProductParams {
  const StageRecord* stages = nullptr;
  const std::int32_t* block_order = nullptr;
  const WorkItem* items = nullptr;
  const std::int32_t* item_count = nullptr;
  const SplitGroup* splits = nullptr;
  const std::int32_t* split_count = nullptr;
  const void* packed = nullptr;          ///< values in schedule order, swizzled (blocks of 16 and 32)
  float* partial = nullptr;              ///< sums of split items
  std::int32_t* tile_counter = nullptr;  ///< zero before the launch
  std::int32_t token_tiles = 0;          ///< cluster tiles along the tokens
  std::int32_t panel_tiles = 1;          ///< of these, how many form a panel that is finished before the next one
  bool sliced_dense = true;              ///< spmm: the dense map has three dimensions in use (device/tensor_map.h)
  std::int32_t out_cols = 0;             ///< columns of the output (the bias's length)
  const void* bias = nullptr;
  float alpha = 1.0f, beta = 0.0f;
  Activation activation = Activation::none;
  ptx::L2Policy dense_policy = ptx::L2Policy::normal, values_policy = ptx::L2Policy::normal,
                out_policy = ptx::L2Policy::normal;
};

/// Which tile comes next. Panels of token tiles are outermost, then items (longest first), then the token tiles of the
/// panel: a panel of the dense operand stays in L2 while all items pass over it. But an item that takes longer than its
/// panel would, in the last panel, still be computed when the rest is done: such long items come before all panels.
class ProductTiles {
 public:
  /// @param clusters that share the tiles.
  __device__ ProductTiles(const ProductParams& params, int item_count, int clusters)
      : params_(params), item_count_(item_count) {
    if (params.panel_tiles == params.token_tiles) return;  // one panel: the long items come first anyway
    const std::int64_t median = params.items[item_count / 2].stage_count;
    const std::int64_t limit = max(2 * median, median * item_count * params.panel_tiles / clusters);
    if (median == 0 || params.items[0].stage_count <= limit) return;
    int end = item_count / 2;
    while (long_items_ < end) {  // items come longest first
      const int middle = (long_items_ + end) / 2;
      if (params.items[middle].stage_count > limit) {
        long_items_ = middle + 1;
      } else {
        end = middle;
      }
    }
  }

  __device__ device::TileInfo take() const {
    int tile = atomicAdd(params_.tile_counter, 1);
    if (tile >= item_count_ * params_.token_tiles) return {-1, 0, 0, -1, 0};
    if (tile < long_items_ * params_.token_tiles) {
      return describe(tile / params_.token_tiles, tile % params_.token_tiles);
    }
    tile -= long_items_ * params_.token_tiles;
    const int per_panel = (item_count_ - long_items_) * params_.panel_tiles;
    const int panel = tile / per_panel;
    const int rest = tile - panel * per_panel;
    const int width = min(params_.panel_tiles, params_.token_tiles - panel * params_.panel_tiles);
    return describe(long_items_ + rest / width, panel * params_.panel_tiles + rest % width);
  }

 private:
  __device__ device::TileInfo describe(int number, int token_tile) const {
    const WorkItem item = params_.items[number];
    return {item.group, item.stage_begin, item.stage_count, item.split_slot, token_tile};
  }

  const ProductParams& params_;
  int item_count_, long_items_ = 0;
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

/// Asks for the bias of kRows output columns from `row` on ahead of its use. (A negative row is that of no tile.)
template <typename Element, int kRows>
__device__ __forceinline__ void prefetch_bias(const ProductParams& params, int row) {
  constexpr int kLine = 128 / sizeof(Element);
  const int first = static_cast<int>(threadIdx.x % 128) * kLine, col = row + first;
  if (params.bias != nullptr && first < kRows && row >= 0 && col < params.out_cols) {
    ptx::prefetch_l1(static_cast<const Element*>(params.bias) + col);
  }
}

/// The bias of an output column, 0 from `count` on. (Choosing with a branch around all loads whether there is a bias
/// makes ptxas see accumulators defined on two paths and serialise wgmma: C7515.)
template <typename Element>
__device__ __forceinline__ float bias_at(const ProductParams& params, int col, int count) {
  return col < count ? device::to_float(static_cast<const Element*>(params.bias)[col]) : 0.0f;
}

}  // namespace triage::sm90
