// sddmm on Hopper, all block sizes: values[block] = alpha * (X * Y^T or X^T * Y at the block) + beta * values[block].
//
// Tile: kTileRows rows (a group of kTileRows / kBlock block rows) times up to kTileCols columns, gathered: kTileCols /
// kBlock union columns of the group, one stage of the schedule. The product over the inner dimension is dense inside of
// a tile and only the blocks of the pattern are written, so the useful share is how full the union is; in exchange, the
// operands are read in large tiles whatever the block size. In a cluster of two, the CTAs take neighbouring stages of
// one group: each loads half of the rows of X for both. If the group has one stage left, the second CTA delivers its
// half and writes nothing.
//
// | warps | role     | work                                                                               |
// |-------|----------|------------------------------------------------------------------------------------|
// | 0-3   | consumer | wgmma m64n256k16: rows 0-63 of 128 x 256, or columns 0-255 of 64 x 512; epilogue   |
// | 4-7   | consumer | the other half                                                                     |
// | 8     | producer | one thread: TMA of 64 values of the inner dimension: rows of X, a box of Y a column |
// | 9-11  | idle     | (setmaxnreg needs whole warpgroups)                                                |
//
// | barrier  | arrivals                                    | completes when                 |
// |----------|---------------------------------------------|--------------------------------|
// | full[s]  | 1 (producer) + bytes                        | a slot of X and Y has arrived  |
// | empty[s] | 8 consumer warps of each CTA of the cluster | nobody reads the slot any more |
// | ring     | see device/tile_scheduler.h                 |                                |
#pragma once

#include <cuda.h>

#include "device/epilogue.h"
#include "device/pipeline.h"
#include "device/schedule.h"
#include "device/tile_scheduler.h"
#include "ptx/dependent_launch.h"
#include "ptx/elect.h"
#include "ptx/setmaxnreg.h"
#include "ptx/tma.h"
#include "ptx/wgmma.h"
#include "triage/sparse_gemm.h"

namespace triage::sm90 {

template <typename ElementT, SddmmLayout kLayoutV, int kBlockV, int kTileRowsV, int kClusterV>
struct SddmmConfig {
  using Element = ElementT;
  static constexpr bool kTransposed =
      kLayoutV == SddmmLayout::xt_y;  ///< the inner dimension runs along the rows in memory
  static constexpr int kBlock = kBlockV, kTileRows = kTileRowsV, kTileCols = 128 * 256 / kTileRows;
  static constexpr int kCluster = kClusterV;
  static constexpr int kSlots = kTileRows == 128 ? 4 : 3;
  static constexpr int kInner = 64;  ///< values of the inner dimension in a slot
  static constexpr int kRows = kTileRows / kBlock, kColumns = kTileCols / kBlock;   ///< in blocks
  static constexpr int kGroupColumns = kTileRows == 128 ? kColumns : kColumns / 2;  ///< of one consumer warpgroup
  static constexpr int kXBytes = kTileRows * kInner * 2, kYBytes = kTileCols * kInner * 2;
  static constexpr int kColumnBytes = kBlock * kInner * 2;     ///< of one union column in a slot
  static constexpr int kBoxWidth = kBlock < 64 ? kBlock : 64;  ///< transposed: columns of Y in a box
  static_assert(kTileRows == 64 || kTileRows == 128, "two warpgroups of 64 x 256, side by side or one above the other");
  static_assert(kCluster == 1 || (kCluster == 2 && kTileRows == 128), "each CTA loads 64 rows of X for both");
  static_assert(kRows >= 1, "a tile must hold a whole block row");
  static_assert(kRows * kColumns <= 255 && kColumns <= kMaxColumnsPerStage, "a stage record holds no more");
};

struct SddmmParams {
  const StageRecord* stages = nullptr;
  const std::int32_t* block_order = nullptr;
  const WorkItem* items = nullptr;
  const std::int32_t* item_count = nullptr;
  std::int32_t* tile_counter = nullptr;  ///< zero before the launch
  void* values = nullptr;
  std::int64_t rows = 0, cols = 0;
  std::int32_t inner_steps = 0;  ///< ceil(inner dimension / 64)
  std::int32_t panel_items = 8;  ///< groups whose tiles are computed together, so that their rows of X stay in L2
  float alpha = 1.0f, beta = 0.0f;
};

template <typename C>
struct SddmmStorage {
  struct alignas(1024) Slot {
    std::uint8_t x[C::kXBytes];
    std::uint8_t y[C::kYBytes];
  };
  Slot slots[C::kSlots];
  device::PipelineBarriers<C::kSlots> pipeline;
  device::TileRing ring;
};

/// Tile number -> a stage of an item. Panels of items outermost, then the stage's number within its item, then the
/// item. Items come longest first, so each panel has as many turns as its first item has stages; an item that is
/// shorter sits out the last turns. In a cluster a turn is a stage for each CTA: the tile names the first and how many
/// there are.
template <int kCluster>
class SddmmTiles {
 public:
  __device__ SddmmTiles(const SddmmParams& params, int item_count) : params_(params), item_count_(item_count) {
    open_panel();
  }

  __device__ device::TileInfo take() {
    for (;;) {
      const int tile = atomicAdd(params_.tile_counter, 1);
      while (item_ < item_count_ && tile >= first_ + width_ * turns_) {
        first_ += width_ * turns_;
        item_ += params_.panel_items;
        open_panel();
      }
      if (item_ >= item_count_) return {-1, 0, 0, -1, 0};
      const int turn = (tile - first_) / width_;
      const WorkItem item = params_.items[item_ + (tile - first_) % width_];
      const int stages = min(item.stage_count - turn * kCluster, kCluster);
      if (stages > 0) return {item.group, item.stage_begin + turn * kCluster, stages, -1, 0};
    }
  }

 private:
  __device__ void open_panel() {
    if (item_ >= item_count_) return;
    width_ = min(params_.panel_items, item_count_ - item_);
    turns_ = (params_.items[item_].stage_count + kCluster - 1) / kCluster;
  }

  const SddmmParams& params_;
  int item_count_, item_ = 0, first_ = 0, width_ = 1, turns_ = 0;
};

/// One thread: fills slots for every tile of the CTA.
template <typename C>
__device__ __forceinline__ void sddmm_produce(SddmmStorage<C>& storage, const CUtensorMap* x_map,
                                              const CUtensorMap* y_map, const SddmmParams& params, int item_count) {
  ptx::wait_for_earlier_kernels();  // the tile counter
  device::TileFeeder<C::kCluster> feeder(storage.ring);
  device::TileReader<C::kCluster> reader(storage.ring);
  device::PipelineState<C::kSlots> state(1);
  SddmmTiles<C::kCluster> tiles(params, item_count);
  const int rank = C::kCluster > 1 ? ptx::cluster_cta_rank() : 0;

  for (;;) {
    feeder.feed([&] { return tiles.take(); });
    feeder.advance();
    const device::TileInfo tile = reader.next_alone();
    if (tile.group < 0) break;
    const StageRecord& stage = params.stages[tile.stage_begin + rank];  // what lies behind the last stage is readable
    const int columns = rank < tile.stage_count ? stage.column_count : 0, row = tile.group * C::kTileRows;
    int first_col[C::kColumns];
#pragma unroll
    for (int j = 0; j < C::kColumns; j++) first_col[j] = stage.column[j] * C::kBlock;

    for (int step = 0; step < params.inner_steps; step++) {
      auto& slot = storage.slots[state.slot];
      const std::uint32_t full = ptx::shared_address(&storage.pipeline.full[state.slot]);
      const std::uint32_t x = ptx::shared_address(slot.x), y = ptx::shared_address(slot.y);
      const int inner = step * C::kInner;
      ptx::mbarrier_wait(ptx::shared_address(&storage.pipeline.empty[state.slot]), state.parity);
      ptx::barrier_expect(full, C::kXBytes + columns * C::kColumnBytes);
      constexpr int kXBoxes = C::kTileRows / 64;  // of 64 rows, 8 KB each
#pragma unroll
      for (int i = rank; i < kXBoxes; i += C::kCluster) {
        const int first = C::kTransposed ? row + i * 64 : inner, second = C::kTransposed ? inner : row + i * 64;
        if constexpr (C::kCluster > 1) {
          ptx::tma_load_multicast(x + i * (64 * 128), x_map, full, first, second, (1 << C::kCluster) - 1);
        } else {
          ptx::tma_load(x + i * (64 * 128), x_map, full, first, second);
        }
      }
#pragma unroll
      for (int j = 0; j < C::kColumns; j++) {
        if (j >= columns) break;
        if constexpr (C::kTransposed) {
#pragma unroll
          for (int i = 0; i < C::kBlock / C::kBoxWidth; i++) {
            ptx::tma_load(y + j * C::kColumnBytes + i * (C::kBoxWidth * C::kInner * 2), y_map, full,
                          first_col[j] + i * C::kBoxWidth, inner);
          }
        } else {
          ptx::tma_load(y + j * C::kColumnBytes, y_map, full, inner, first_col[j]);
        }
      }
      state.advance();
    }
  }
}

/// Where a warp's part of a tile goes. All of its 16 rows lie in one block row.
struct SddmmTarget {
  std::uint32_t mask;        ///< of the union columns of this warpgroup that have a block in this block row
  std::int32_t value_block;  ///< lane i: position in `values` of the block row's i-th block in this warpgroup's columns
  std::int32_t column;       ///< lane i: block column of this warpgroup's i-th union column

  template <typename C>
  __device__ static SddmmTarget of(const SddmmParams& params, const StageRecord& stage, C) {
    const int lane = threadIdx.x % 32, group = threadIdx.x / 128;
    const int block_row = (threadIdx.x / 32 * 16 % C::kTileRows) / C::kBlock;
    const int first_column = C::kTileRows == 128 ? 0 : group * C::kGroupColumns;
    int position = stage.first_block;
    for (int r = 0; r < block_row; r++) position += __popc(stage.row_mask[r]);
    const std::uint32_t row_mask = stage.row_mask[block_row];
    position += __popc(row_mask & ((1u << first_column) - 1));
    return {row_mask >> first_column & ((1u << C::kGroupColumns) - 1), params.block_order[position + lane],
            stage.column[(first_column + lane) % kMaxColumnsPerStage]};
  }
};

/// Writes the blocks of the pattern that this warp's 16 rows cross.
template <typename C>
__device__ __forceinline__ void sddmm_store(float (&acc)[128], const SddmmParams& params, const SddmmTarget& target,
                                            int group) {
  using Element = typename C::Element;
  const int lane = threadIdx.x % 32, tile_row = threadIdx.x / 32 * 16 % C::kTileRows + lane / 4;
  const std::int64_t row = static_cast<std::int64_t>(group) * C::kTileRows + tile_row;
  int written = 0;
#pragma unroll
  for (int c = 0; c < C::kGroupColumns; c++) {
    if ((target.mask >> c & 1) == 0) continue;
    const std::int64_t value_block = __shfl_sync(0xffffffffu, target.value_block, written++);
    Element* block = static_cast<Element*>(params.values) + value_block * (C::kBlock * C::kBlock) +
                     tile_row % C::kBlock * C::kBlock + lane % 4 * 2;
    const std::int64_t col =
        static_cast<std::int64_t>(__shfl_sync(0xffffffffu, target.column, c)) * C::kBlock + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < C::kBlock / 8; j++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        auto* pair = reinterpret_cast<std::uint32_t*>(block + half * 8 * C::kBlock + j * 8);
        float x[2] = {params.alpha * acc[(c * C::kBlock / 8 + j) * 4 + half * 2],
                      params.alpha * acc[(c * C::kBlock / 8 + j) * 4 + half * 2 + 1]};
        if (params.beta != 0.0f) {
          const std::uint32_t old = *pair;
          x[0] += params.beta * device::to_float(reinterpret_cast<const Element*>(&old)[0]);
          x[1] += params.beta * device::to_float(reinterpret_cast<const Element*>(&old)[1]);
        }
        // Outside of the matrix stands 0, whatever the operands' last rows held.
        if (row + half * 8 >= params.rows) x[0] = x[1] = 0.0f;
        if (col + j * 8 >= params.cols) x[0] = 0.0f;
        if (col + j * 8 + 1 >= params.cols) x[1] = 0.0f;
        *pair = device::pack2<Element>(x[0], x[1]);
      }
    }
  }
}

template <typename C>
__device__ __forceinline__ void sddmm_consume(SddmmStorage<C>& storage, const SddmmParams& params) {
  const int lane = threadIdx.x % 32;
  const int group = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
  const int rank = C::kCluster > 1 ? ptx::cluster_cta_rank() : 0;
  device::TileReader<C::kCluster> tiles(storage.ring);
  device::PipelineState<C::kSlots> state(0);
  // Lane i of each warp releases a slot to CTA i of the cluster.
  const std::uint32_t empty =
      C::kCluster > 1 ? ptx::cluster_address(ptx::shared_address(storage.pipeline.empty), lane % C::kCluster)
                      : ptx::shared_address(storage.pipeline.empty);
  const auto release_before = [&](int slot) {
    const std::uint32_t barrier = empty + (slot == 0 ? C::kSlots - 1 : slot - 1) * 8;
    if (lane >= C::kCluster) return;
    if constexpr (C::kCluster > 1) {
      ptx::cluster_arrive(barrier);
    } else {
      ptx::mbarrier_arrive(barrier);
    }
  };

  // Layout of the operands: see ptx/wgmma.h. Transposed, Y's pieces are as wide as a block allows.
  constexpr ptx::Major kMajor = C::kTransposed ? ptx::Major::mn : ptx::Major::k;
  constexpr std::uint32_t kXUpper = ptx::descriptor_upper(1024, ptx::Swizzle::bytes128);
  constexpr int kRowBytes = C::kTransposed ? 2 * C::kBoxWidth : 128;
  constexpr std::uint32_t kYUpper = ptx::descriptor_upper(8 * kRowBytes, ptx::swizzle_of(kRowBytes));
  constexpr int kXStep = (C::kTransposed ? 16 * 128 : 32) / 16, kYStep = (C::kTransposed ? 16 * kRowBytes : 32) / 16;
  const int x_offset = C::kTileRows == 128 ? group * (C::kXBytes / 2) : 0;
  const int y_offset = C::kTileRows == 128 ? 0 : group * (C::kYBytes / 2);

  float acc[128];
  for (;;) {
    const device::TileInfo tile = tiles.next(lane);
    if (tile.group < 0) break;
    SddmmTarget target = SddmmTarget::of(params, params.stages[tile.stage_begin + rank], C{});
    if (rank >= tile.stage_count) target.mask = 0;
    for (int step = 0; step < params.inner_steps; step++) {
      auto& slot = storage.slots[state.slot];
      const std::uint32_t x = ptx::descriptor_lower(ptx::shared_address(slot.x) + x_offset);
      const std::uint32_t y = ptx::descriptor_lower(ptx::shared_address(slot.y) + y_offset, C::kInner * kRowBytes);
      ptx::mbarrier_wait(ptx::shared_address(&storage.pipeline.full[state.slot]), state.parity);
      ptx::wgmma_fence();
#pragma unroll
      for (int k = 0; k < C::kInner / 16; k++) {
        ptx::wgmma<typename C::Element, 256, kMajor, kMajor>(acc, ptx::descriptor(kXUpper, x + k * kXStep),
                                                             ptx::descriptor(kYUpper, y + k * kYStep), step + k > 0);
      }
      ptx::wgmma_commit();
      ptx::wgmma_wait<1>();
      if (step > 0) release_before(state.slot);
      state.advance();
    }
    ptx::wgmma_wait<0>();
    release_before(state.slot);
    ptx::wgmma_settle(acc);
    sddmm_store<C>(acc, params, target, tile.group);
  }
}

template <typename C>
__global__ void __launch_bounds__(384, 1) __cluster_dims__(C::kCluster, 1, 1)
    sddmm_kernel(const __grid_constant__ CUtensorMap x_map, const __grid_constant__ CUtensorMap y_map,
                 const __grid_constant__ SddmmParams params) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  auto& storage = *reinterpret_cast<SddmmStorage<C>*>(shared);
  if (threadIdx.x == 0) {
    ptx::tma_prefetch(&x_map);
    ptx::tma_prefetch(&y_map);
    for (int i = 0; i < C::kSlots; i++) {
      ptx::mbarrier_init(ptx::shared_address(&storage.pipeline.full[i]), 1);
      ptx::mbarrier_init(ptx::shared_address(&storage.pipeline.empty[i]), 8 * C::kCluster);
    }
    device::tile_ring_init(storage.ring, 9 * C::kCluster);
    ptx::fence_barrier_init();
  }
  if constexpr (C::kCluster > 1) {
    ptx::cluster_sync();
  } else {
    __syncthreads();
  }
  if (threadIdx.x >= 256) {
    ptx::give_registers<56>();  // 40 spill with 16 columns
    if (threadIdx.x < 288 && ptx::elect_one()) sddmm_produce<C>(storage, &x_map, &y_map, params, *params.item_count);
  } else {
    ptx::take_registers<224>();
    sddmm_consume<C>(storage, params);
  }
  if constexpr (C::kCluster > 1) ptx::cluster_sync_unaligned();  // a CTA's memory must outlive its neighbour's arrivals
}

}  // namespace triage::sm90
