// sddmm on Hopper, all block sizes: values[block] = alpha * (X * Y^T or X^T * Y at the block) + beta * values[block].
//
// Tile: 128 rows (a group of 128 / kBlock block rows) times up to 256 columns, gathered: 256 / kBlock union columns of the
// group, one stage of the schedule. The product over the inner dimension is dense inside of a tile and only the blocks of
// the pattern are written, so the useful share is how full the union is; in exchange, operands are read in tiles of 128 and
// 256 rows whatever the block size.
//
// | warps | role     | work                                                                                        |
// |-------|----------|---------------------------------------------------------------------------------------------|
// | 0-3   | consumer | rows 0-63 of the tile: wgmma m64n256k16, epilogue                                           |
// | 4-7   | consumer | rows 64-127                                                                                 |
// | 8     | producer | TMA of 64 values of the inner dimension: 128 rows of X, and of Y one box per union column   |
// | 9-11  | idle     | (setmaxnreg needs whole warpgroups)                                                         |
//
// | barrier  | arrivals             | completes when                      |
// |----------|----------------------|-------------------------------------|
// | full[s]  | 1 (producer) + bytes | a slot of X and Y has arrived       |
// | empty[s] | 8 consumer warps     | nobody reads the slot any more      |
// | ring     | see device/tile_scheduler.h                                 |
#pragma once

#include <cuda.h>

#include "device/epilogue.h"
#include "device/pipeline.h"
#include "device/schedule.h"
#include "device/tile_scheduler.h"
#include "ptx/elect.h"
#include "ptx/setmaxnreg.h"
#include "ptx/tma.h"
#include "ptx/wgmma.h"
#include "triage/sparse_gemm.h"

namespace triage::sm90 {

template <typename ElementT, SddmmLayout kLayoutV, int kBlockV, bool kDynamicV = true>
struct SddmmConfig {
  using Element = ElementT;
  static constexpr bool kTransposed = kLayoutV == SddmmLayout::xt_y;  ///< the inner dimension runs along the rows in memory
  static constexpr bool kDynamic = kDynamicV;
  static constexpr int kBlock = kBlockV, kSlots = 4, kInner = 64;
  static constexpr int kTileRows = 128, kTileCols = 256;
  static constexpr int kRows = kTileRows / kBlock, kColumns = kTileCols / kBlock;  ///< in blocks
  static constexpr int kXBytes = kTileRows * kInner * 2, kYBytes = kTileCols * kInner * 2;
  static constexpr int kColumnBytes = kBlock * kInner * 2;  ///< of one union column in a slot
  static constexpr int kBoxWidth = kBlock < 64 ? kBlock : 64;  ///< transposed: columns of Y in a box
  static_assert(kRows * kColumns <= 255 && kColumns <= kMaxColumnsPerStage, "a stage record holds no more");
};

struct SddmmParams {
  const StageRecord* stages = nullptr;
  const std::int32_t* block_order = nullptr;
  const WorkItem* items = nullptr;
  const std::int32_t* item_count = nullptr;
  std::int32_t* tile_counter = nullptr;
  void* values = nullptr;
  std::int64_t rows = 0, cols = 0;
  std::int32_t inner_steps = 0;   ///< ceil(inner dimension / 64)
  std::int32_t panel_items = 16;  ///< groups whose tiles are computed together, so that their rows of X stay in L2
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
  alignas(16) std::int32_t columns[C::kColumns];  ///< first columns of the tile's union columns
};

/// Tile number -> a stage of an item. Panels of items outermost, then the stage's number within its item, then the item.
/// Items come longest first, so each panel has as many turns as its first item has stages; an item that is shorter sits
/// out the last turns. Tile numbers must not fall from call to call.
class SddmmTiles {
 public:
  __device__ SddmmTiles(const SddmmParams& params, int item_count) : params_(params), item_count_(item_count) { open_panel(); }

  enum class Found { tile, nothing, end };
  __device__ Found find(int tile, const StageRecord*& stage, int& group) {
    while (item_ < item_count_ && tile >= first_ + width_ * turns_) {
      first_ += width_ * turns_;
      item_ += params_.panel_items;
      open_panel();
    }
    if (item_ >= item_count_) return Found::end;
    const int rest = tile - first_, turn = rest / width_;
    const WorkItem item = params_.items[item_ + rest - turn * width_];
    stage = params_.stages + item.stage_begin + turn;
    group = item.group;
    return turn < item.stage_count ? Found::tile : Found::nothing;
  }

 private:
  __device__ void open_panel() {
    if (item_ >= item_count_) return;
    width_ = min(params_.panel_items, item_count_ - item_);
    turns_ = params_.items[item_].stage_count;
  }

  const SddmmParams& params_;
  int item_count_, item_ = 0, first_ = 0, width_ = 1, turns_ = 0;
};

template <typename C>
__device__ __forceinline__ void sddmm_produce(SddmmStorage<C>& storage, const CUtensorMap* x_map, const CUtensorMap* y_map,
                                              const SddmmParams& params, int item_count) {
  const int lane = threadIdx.x % 32;
  device::TileScheduler<1, C::kDynamic> scheduler(storage.ring, params.tile_counter);
  device::PipelineState<C::kSlots> state(1);
  SddmmTiles tiles(params, item_count);

  scheduler.fetch(lane);
  for (;;) {
    const int tile = scheduler.next(lane);
    const StageRecord* stage;
    int group;
    const SddmmTiles::Found found = tiles.find(tile, stage, group);
    if (found == SddmmTiles::Found::end) break;
    scheduler.fetch(lane);
    if (found == SddmmTiles::Found::nothing) continue;
    const int columns = stage->column_count;
    constexpr int kBoxes = C::kTransposed ? C::kBlock / C::kBoxWidth : 1;  // per union column
    __syncwarp();
    if (lane < C::kColumns) storage.columns[lane] = stage->column[lane] * C::kBlock;
    __syncwarp();
    for (int step = 0; step < params.inner_steps; step++) {
      auto& slot = storage.slots[state.slot];
      const std::uint32_t full = ptx::shared_address(&storage.pipeline.full[state.slot]);
      const std::uint32_t x = ptx::shared_address(slot.x), y = ptx::shared_address(slot.y);
      ptx::mbarrier_wait(ptx::shared_address(&storage.pipeline.empty[state.slot]), state.parity);
      if (ptx::elect_one()) {
        const int inner = step * C::kInner, row = group * C::kTileRows;
        std::int32_t first[C::kColumns];
#pragma unroll
        for (int j = 0; j < C::kColumns; j += 2) {
          *reinterpret_cast<int2*>(first + j) = *reinterpret_cast<const int2*>(storage.columns + j);
        }
        ptx::barrier_expect(full, C::kXBytes + columns * C::kColumnBytes);
        if constexpr (C::kTransposed) {
          ptx::tma_load(x, x_map, full, row, inner);
          ptx::tma_load(x + C::kXBytes / 2, x_map, full, row + 64, inner);
        } else {
          ptx::tma_load(x, x_map, full, inner, row);
        }
#pragma unroll
        for (int j = 0; j < C::kColumns; j++) {
          if (j >= columns) break;
          const int col = first[j];
          if constexpr (C::kTransposed) {
#pragma unroll
            for (int box = 0; box < kBoxes; box++) {
              ptx::tma_load(y + (j * kBoxes + box) * (C::kBoxWidth * C::kInner * 2), y_map, full, col + box * C::kBoxWidth, inner);
            }
          } else {
            ptx::tma_load(y + j * C::kColumnBytes, y_map, full, inner, col);
          }
        }
      }
      __syncwarp();
      state.advance();
    }
  }
}

/// Writes the blocks of the pattern that this warp's 16 rows cross. All of its rows lie in one block row.
template <typename C>
__device__ __forceinline__ void sddmm_store(float (&acc)[C::kTileCols / 2], const SddmmParams& params, const StageRecord& stage,
                                            int group) {
  using Element = typename C::Element;
  const int lane = threadIdx.x % 32, tile_row = threadIdx.x / 32 * 16 + lane / 4;
  const int block_row = threadIdx.x / 32 * 16 / C::kBlock;
  int position = stage.first_block;
  for (int r = 0; r < block_row; r++) position += __popc(stage.row_mask[r]);
  const std::uint32_t mask = stage.row_mask[block_row];
  const std::int64_t row = static_cast<std::int64_t>(group) * C::kTileRows + tile_row;

#pragma unroll
  for (int c = 0; c < C::kColumns; c++) {
    if ((mask >> c & 1) == 0) continue;
    const std::int64_t value_block = params.block_order[position++];
    Element* block = static_cast<Element*>(params.values) + value_block * (C::kBlock * C::kBlock) +
                     tile_row % C::kBlock * C::kBlock + lane % 4 * 2;
    const std::int64_t col = static_cast<std::int64_t>(stage.column[c]) * C::kBlock + lane % 4 * 2;
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
__device__ __forceinline__ void sddmm_consume(SddmmStorage<C>& storage, const SddmmParams& params, int item_count) {
  const int lane = threadIdx.x % 32;
  const int group_of_warps = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
  device::TileScheduler<1, C::kDynamic> scheduler(storage.ring, params.tile_counter);
  device::PipelineState<C::kSlots> state(0);
  SddmmTiles tiles(params, item_count);
  const std::uint32_t empty = ptx::shared_address(storage.pipeline.empty);

  // Layout of the operands: see ptx/wgmma.h. Transposed, Y's pieces are as wide as a block allows.
  constexpr ptx::Major kMajor = C::kTransposed ? ptx::Major::mn : ptx::Major::k;
  constexpr std::uint32_t kXUpper = ptx::descriptor_upper(1024, ptx::Swizzle::bytes128);
  constexpr int kRowBytes = C::kTransposed ? 2 * C::kBoxWidth : 128;
  constexpr std::uint32_t kYUpper = ptx::descriptor_upper(8 * kRowBytes, ptx::swizzle_of(kRowBytes));
  constexpr int kXStep = (C::kTransposed ? 16 * 128 : 32) / 16, kYStep = (C::kTransposed ? 16 * kRowBytes : 32) / 16;

  float acc[C::kTileCols / 2];
  for (;;) {
    const int tile = scheduler.next(lane);
    const StageRecord* stage;
    int group;
    const SddmmTiles::Found found = tiles.find(tile, stage, group);
    if (found == SddmmTiles::Found::end) break;
    if (found == SddmmTiles::Found::nothing) continue;
    for (int step = 0; step < params.inner_steps; step++) {
      auto& slot = storage.slots[state.slot];
      const std::uint32_t x = ptx::descriptor_lower(ptx::shared_address(slot.x) + group_of_warps * (C::kXBytes / 2));
      const std::uint32_t y = ptx::descriptor_lower(ptx::shared_address(slot.y), C::kInner * kRowBytes);
      ptx::mbarrier_wait(ptx::shared_address(&storage.pipeline.full[state.slot]), state.parity);
      ptx::wgmma_fence();
#pragma unroll
      for (int k = 0; k < C::kInner / 16; k++) {
        ptx::wgmma<typename C::Element, C::kTileCols, kMajor, kMajor>(
            acc, ptx::descriptor(kXUpper, x + k * kXStep), ptx::descriptor(kYUpper, y + k * kYStep), step + k > 0);
      }
      ptx::wgmma_commit();
      ptx::wgmma_wait<1>();
      if (step > 0 && lane == 0) ptx::mbarrier_arrive(empty + (state.slot == 0 ? C::kSlots - 1 : state.slot - 1) * 8);
      state.advance();
    }
    ptx::wgmma_wait<0>();
    if (lane == 0) ptx::mbarrier_arrive(empty + (state.slot == 0 ? C::kSlots - 1 : state.slot - 1) * 8);
    ptx::wgmma_settle(acc);
    sddmm_store<C>(acc, params, *stage, group);
  }
}

template <typename C>
__global__ void __launch_bounds__(384, 1) __cluster_dims__(1, 1, 1)
    sddmm_kernel(const __grid_constant__ CUtensorMap x_map, const __grid_constant__ CUtensorMap y_map,
                 const __grid_constant__ SddmmParams params) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  auto& storage = *reinterpret_cast<SddmmStorage<C>*>(shared);
  if (threadIdx.x == 0) {
    ptx::tma_prefetch(&x_map);
    ptx::tma_prefetch(&y_map);
    for (int i = 0; i < C::kSlots; i++) {
      ptx::mbarrier_init(ptx::shared_address(&storage.pipeline.full[i]), 1);
      ptx::mbarrier_init(ptx::shared_address(&storage.pipeline.empty[i]), 8);
    }
    device::tile_ring_init(storage.ring, 9);
    ptx::fence_barrier_init();
  }
  __syncthreads();
  const int item_count = *params.item_count;
  if (threadIdx.x >= 256) {
    ptx::give_registers<40>();
    if (threadIdx.x < 288) sddmm_produce<C>(storage, &x_map, &y_map, params, item_count);
  } else {
    ptx::take_registers<232>();
    sddmm_consume<C>(storage, params, item_count);
  }
}

}  // namespace triage::sm90
