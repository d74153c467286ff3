// spmm and linear for blocks of 16 and 32 on Hopper.
//
//   spmm:   C[row, token] = alpha * sum_k S[row, k] * B[k, token] + beta * C
//   linear: Y[token, row] = act(sum_k X[token, k] * S[row, k] + bias[row])
//
// Tile: kRows block rows (one group of the schedule) times 128 tokens. Roles are transposed: 64 tokens of the dense
// panel are wgmma's M side, one sparse block its N side (N = 16 or 32), both from shared memory, so nothing is padded.
// A stage holds a few union columns of the dense panel and the blocks that fall into them; each consumer warpgroup owns
// half of the block rows and all tokens. Per block row it walks through the set bits of a 16-bit column mask; rows are
// unrolled, so the accumulators are static; absent blocks cost nothing.
//
// | warps | role     | work                                                                                        |
// |-------|----------|---------------------------------------------------------------------------------------------|
// | 0-3   | consumer | upper half of the group's block rows: wgmma, epilogue                                       |
// | 4-7   | consumer | lower half                                                                                  |
// | 8     | producer | one thread: TMA of dense columns (own tokens), bulk copy of packed blocks (half each)       |
// | 9     | planner  | one thread: next tiles and the records of their stages (sm90_plan.h)                        |
// | 10-11 | idle     | (setmaxnreg needs whole warpgroups)                                                         |
//
// | barrier  | arrivals                                     | completes when                                          |
// |----------|----------------------------------------------|---------------------------------------------------------|
// | full[s]  | 1 (own producer) + bytes                     | a stage's columns and blocks have arrived               |
// | empty[s] | 8 consumer warps of each CTA of the cluster  | nobody reads the stage any more                         |
// | old[g]   | 1 (thread 0 of the warpgroup) + bytes        | a chunk of the old output has arrived (beta != 0)       |
// | ring, plan | see device/tile_scheduler.h, sm90_plan.h   |                                                         |
#pragma once

#include "device/pipeline.h"
#include "device/tile_scheduler.h"
#include "ptx/elect.h"
#include "ptx/wgmma.h"
#include "sparse_gemm/sm90_epilogue.h"
#include "sparse_gemm/sm90_plan.h"

namespace triage::sm90 {

/// @tparam kRows block rows per group. @tparam kColumns, kBlocks most union columns and blocks in a stage.
/// @tparam kRun linear: union columns come in aligned runs of this many, loaded with one box; the schedule's
/// column_run.
template <typename ElementT, bool kLinearV, int kBlockV, int kRowsV, int kColumnsV, int kBlocksV, int kStagesV,
          int kClusterV, int kRunV = 1, int kBuffersV = 2, int kAheadV = 4>
struct SmallBlockConfig {
  using Element = ElementT;
  static constexpr bool kLinear = kLinearV;
  static constexpr int kBlock = kBlockV, kRows = kRowsV, kColumns = kColumnsV, kBlocks = kBlocksV, kStages = kStagesV,
                       kCluster = kClusterV, kRun = kRunV, kBuffers = kBuffersV, kAhead = kAheadV;
  static constexpr int kTokens = 128;
  static constexpr int kGroupRows = kRows / kConsumerGroups;  ///< block rows of one consumer warpgroup
  static constexpr int kBlockBytes = kBlock * kBlock * 2;
  static constexpr int kColumnBytes = kBlock * kTokens * 2;
  static constexpr int kRunBytes = kRun * kBlock * 2;  ///< of one token's elements in a run (linear)
  static constexpr int kChunkTiles = 4;
  static constexpr int kChunkRows = 32 / kBlock;  ///< block rows in an output chunk

  static_assert(kBlock == 16 || kBlock == 32, "a block is wgmma's N side: larger blocks are better on the M side");
  static_assert(kRows % (kConsumerGroups * kChunkRows) == 0,
                "each warpgroup must own whole output chunks of 32 rows, else a thread has no row to write");
  static_assert(kRows <= kMaxRowsPerGroup && kColumns <= kMaxColumnsPerStage && kBlocks >= kRows && kBlocks <= 255,
                "the schedule's records hold no more");
  static_assert(kGroupRows * kBlock <= 192, "more than 192 accumulators a thread do not fit 232 registers");
  static_assert(!kLinear || kRunBytes == 32 || kRunBytes == 64 || kRunBytes == 128, "a swizzle pattern's row");
  static_assert(kColumns % kRun == 0, "a stage holds whole runs");
};

template <typename C>
struct SmallBlockStorage {
  struct alignas(1024) Stage {
    std::uint8_t dense[C::kColumns * C::kColumnBytes];
    std::uint8_t blocks[C::kBlocks * C::kBlockBytes];
  };
  Stage stages[C::kStages];
  EpilogueStorage<4096, C::kBuffers> epilogue[kConsumerGroups];
  device::PipelineBarriers<C::kStages> pipeline;
  device::TileRing ring;
  PlanRing<C::kAhead, 0> plan;
  std::uint64_t old[kConsumerGroups];
};

/// One thread: fills stages for every tile of the CTA. From its registers a copy costs some ten cycles; with an
/// election or a loop over lanes for each, about a hundred.
template <typename C>
__device__ __forceinline__ void small_block_produce(SmallBlockStorage<C>& storage, const CUtensorMap* dense_map,
                                                    const ProductParams& params) {
  const int rank = C::kCluster > 1 ? ptx::cluster_cta_rank() : 0;
  device::PipelineState<C::kStages> state(1);
  PlanReader plan(storage.plan);
  ptx::wait_for_earlier_kernels();  // packed values

  while (plan.next()) {
    const int token = (plan.token_tile * C::kCluster + rank) * C::kTokens;
    const int columns = plan.record().column_count, blocks = plan.record().block_count;
    const int first_block = plan.record().first_block;
    const RecordColumns<C::kColumns> in(plan.record());
    auto& stage = storage.stages[state.slot];
    const std::uint32_t full = ptx::shared_address(&storage.pipeline.full[state.slot]);
    const std::uint32_t dense = ptx::shared_address(stage.dense), values = ptx::shared_address(stage.blocks);
    ptx::mbarrier_wait(ptx::shared_address(&storage.pipeline.empty[state.slot]), state.parity);
    ptx::barrier_expect(full, columns * C::kColumnBytes + blocks * C::kBlockBytes);
    // Packed blocks of a stage are contiguous. In a cluster, each CTA reads its share and delivers it to all.
    const int begin = blocks * rank / C::kCluster, end = blocks * (rank + 1) / C::kCluster;
    const auto* source = static_cast<const std::uint8_t*>(params.packed) +
                         static_cast<std::int64_t>(first_block + begin) * C::kBlockBytes;
    if constexpr (C::kCluster == 1) {
      if (end > 0) ptx::bulk_load(values, source, end * C::kBlockBytes, full);
    } else if (end > begin) {
      ptx::bulk_load_multicast(values + begin * C::kBlockBytes, source, (end - begin) * C::kBlockBytes, full,
                               (1 << C::kCluster) - 1);
    }
#pragma unroll
    for (int j = 0; j < C::kColumns; j += C::kRun) {
      if (j >= columns) break;
      const int k = in.column[j] * C::kBlock;
      const std::uint32_t place = dense + j * C::kColumnBytes;
      if constexpr (C::kLinear) {  // a box: 128 tokens x one run of columns
        ptx::tma_load(place, dense_map, full, k, token, params.dense_policy);
      } else if (params.sliced_dense) {  // two slices of 64 tokens x the rows of B that the block column covers
        ptx::tma_load_3d(place, dense_map, full, 0, k, token / 64, params.dense_policy);
      } else {
        ptx::tma_load_3d(place, dense_map, full, token, k, 0, params.dense_policy);
        ptx::tma_load_3d(place + C::kColumnBytes / 2, dense_map, full, token + 64, k, 0, params.dense_policy);
      }
    }
    plan.release();
    state.advance();
  }
}

/// A consumer warpgroup's accumulators: [block row][token half][wgmma fragment].
template <typename C>
using SmallBlockAccumulators = float[C::kGroupRows][2][C::kBlock / 2];

/// One stage's products. All values but the accumulators are uniform in the warp.
template <typename C>
__device__ __forceinline__ void small_block_multiply(SmallBlockAccumulators<C>& acc, std::uint32_t dense,
                                                     std::uint32_t blocks,
                                                     const std::uint32_t (&masks)[C::kGroupRows]) {
  using Element = typename C::Element;
  constexpr ptx::Major kDenseMajor = C::kLinear ? ptx::Major::k : ptx::Major::mn;
  constexpr std::uint32_t kDenseUpper = C::kLinear
                                            ? ptx::descriptor_upper(8 * C::kRunBytes, ptx::swizzle_of(C::kRunBytes))
                                            : ptx::descriptor_upper(1024, ptx::Swizzle::bytes128);
  constexpr std::uint32_t kBlockUpper = ptx::descriptor_upper(16 * C::kBlock, ptx::swizzle_of(2 * C::kBlock));
  // Steps in units of 16 bytes: from the first 64 tokens to the other 64, and from 16 values of k to the next.
  constexpr int kHalf = (C::kLinear ? 64 * C::kRunBytes : C::kBlock * 128) / 16;
  constexpr int kStep = (C::kLinear ? 32 : 16 * 128) / 16;
  std::uint32_t block = ptx::descriptor_lower(blocks);
  const std::uint32_t base = ptx::descriptor_lower(dense);

#pragma unroll
  for (int r = 0; r < C::kGroupRows; r++) {
    std::uint32_t mask = masks[r];
#pragma unroll 1
    while (mask != 0) {
      const std::uint32_t c = __ffs(mask) - 1;
      mask &= mask - 1;
      std::uint32_t column = base;
      if constexpr (C::kLinear && C::kRun > 1) {
        column += c / C::kRun * (C::kRun * C::kColumnBytes / 16) + c % C::kRun * (2 * C::kBlock / 16);
      } else {
        column += c * (C::kColumnBytes / 16);
      }
#pragma unroll
      for (int k = 0; k < C::kBlock / 16; k++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          ptx::wgmma<Element, C::kBlock, kDenseMajor, ptx::Major::k>(
              acc[r][half], ptx::descriptor(kDenseUpper, column + half * kHalf + k * kStep),
              ptx::descriptor(kBlockUpper, block + 2 * k));
        }
      }
      block += C::kBlockBytes / 16;
    }
  }
}

/// Accumulators at the start of a tile: zero, or the bias of linear.
template <typename C>
__device__ __forceinline__ void small_block_start(SmallBlockAccumulators<C>& acc, const ProductParams& params, int row,
                                                  bool with_bias) {
  const int count = C::kLinear && with_bias && params.bias != nullptr ? params.out_cols : 0;
#pragma unroll
  for (int r = 0; r < C::kGroupRows; r++) {
#pragma unroll
    for (int j = 0; j < C::kBlock / 8; j++) {
      const int col = row + r * C::kBlock + 8 * j + threadIdx.x % 4 * 2;
      const float low = C::kLinear ? bias_at<typename C::Element>(params, col, count) : 0.0f;
      const float high = C::kLinear ? bias_at<typename C::Element>(params, col + 1, count) : 0.0f;
#pragma unroll
      for (int i = 0; i < 4; i++) acc[r][0][4 * j + i] = acc[r][1][4 * j + i] = i % 2 == 0 ? low : high;
    }
  }
}

/// Writes a finished tile: chunks of 32 rows x 64 tokens.
template <typename C, typename Writer>
__device__ __forceinline__ void small_block_store(SmallBlockAccumulators<C>& acc, Writer& writer, int row, int token) {
#pragma unroll
  for (int r = 0; r < C::kGroupRows; r += C::kChunkRows) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float x[16];
#pragma unroll
      for (int i = 0; i < 16; i++) x[i] = acc[r + i / (C::kBlock / 2)][half][i % (C::kBlock / 2)];
      const int chunk_row = row + r * C::kBlock, chunk_token = token + half * 64;
      if constexpr (C::kLinear) {
        writer.write(x, chunk_token, chunk_row);
      } else {
        writer.write(x, chunk_row, chunk_token);
      }
    }
  }
}

/// Partial sums of a split item: [slot][token tile][register][thread], so that neighbouring threads write neighbours.
template <typename C>
__device__ __forceinline__ float* small_block_partial(const ProductParams& params, int slot, int token_tile) {
  constexpr std::int64_t kFloats = C::kGroupRows * C::kBlock * 128 * kConsumerGroups;
  return params.partial + (static_cast<std::int64_t>(slot) * params.token_tiles * C::kCluster + token_tile) * kFloats +
         threadIdx.x;
}

/// One of two warpgroups: multiplies and writes its half of every tile.
template <typename C>
__device__ __forceinline__ void small_block_consume(SmallBlockStorage<C>& storage, const CUtensorMap* out_map,
                                                    const ProductParams& params) {
  const int lane = threadIdx.x % 32;
  const int group = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
  const int rank = C::kCluster > 1 ? ptx::cluster_cta_rank() : 0;
  device::TileReader<C::kCluster> tiles(storage.ring);
  device::PipelineState<C::kStages> state(0);
  MaskReader<PlanRing<C::kAhead, 0>, C::kGroupRows> stage_masks(storage.plan, group, lane);
  ChunkWriter<typename C::Element, C::kLinear, C::kChunkTiles, !C::kLinear, C::kBuffers> writer(
      out_map, params, ptx::shared_address(storage.epilogue[group].staging), ptx::shared_address(&storage.old[group]),
      group);
  // Lane i of each warp releases a stage to CTA i of the cluster.
  const std::uint32_t empty =
      C::kCluster > 1 ? ptx::cluster_address(ptx::shared_address(storage.pipeline.empty), lane % C::kCluster)
                      : ptx::shared_address(storage.pipeline.empty);
  const auto release = [&](int slot) {
    if (lane >= C::kCluster) return;
    if constexpr (C::kCluster > 1) {
      ptx::cluster_arrive(empty + slot * 8);
    } else {
      ptx::mbarrier_arrive(empty + slot * 8);
    }
  };

  SmallBlockAccumulators<C> acc;
  const auto tile_row = [&](const device::TileInfo& of) {  // the first of this warpgroup
    return (of.group * C::kRows + group * C::kGroupRows) * C::kBlock;
  };
  device::TileInfo tile = tiles.next(lane);
  while (tile.group >= 0) {
    const int row = tile_row(tile);
    small_block_start<C>(acc, params, row, tile.split_slot < 0);
    if (tile.stage_count > 0) stage_masks.next();
    for (int s = 0; s < tile.stage_count; s++) {
      auto& stage = storage.stages[state.slot];
      ptx::mbarrier_wait(ptx::shared_address(&storage.pipeline.full[state.slot]), state.parity);
      ptx::wgmma_fence();
      small_block_multiply<C>(acc, ptx::shared_address(stage.dense),
                              ptx::shared_address(stage.blocks) + stage_masks.first_block * C::kBlockBytes,
                              stage_masks.masks);
      ptx::wgmma_commit();
      if (s + 1 < tile.stage_count) stage_masks.next();  // while the products run
      ptx::wgmma_wait<0>();
      release(state.slot);
      state.advance();
    }
#pragma unroll
    for (int r = 0; r < C::kGroupRows; r++) {
      ptx::wgmma_settle(acc[r][0]);
      ptx::wgmma_settle(acc[r][1]);
    }
    const device::TileInfo done = tile;
    tile = tiles.next(lane);
    if (C::kLinear) prefetch_bias<typename C::Element, C::kGroupRows * C::kBlock>(params, tile_row(tile));

    const int token_tile = done.token_tile * C::kCluster + rank;
    if (done.split_slot < 0) {
      small_block_store<C>(acc, writer, row, token_tile * C::kTokens);
    } else {
      float* partial = small_block_partial<C>(params, done.split_slot, token_tile);
#pragma unroll
      for (int i = 0; i < C::kGroupRows * C::kBlock; i++) {
        partial[i * 128 * kConsumerGroups] = acc[i / C::kBlock][i / (C::kBlock / 2) % 2][i % (C::kBlock / 2)];
      }
    }
  }
  writer.finish();
}

template <typename C>
__global__ void __launch_bounds__(kThreads, 1) __cluster_dims__(C::kCluster, 1, 1)
    small_block_kernel(const __grid_constant__ CUtensorMap dense_map, const __grid_constant__ CUtensorMap out_map,
                       const __grid_constant__ ProductParams params) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  auto& storage = *reinterpret_cast<SmallBlockStorage<C>*>(shared);
  if (threadIdx.x == 0) {
    ptx::tma_prefetch(&dense_map);
    ptx::tma_prefetch(&out_map);
    for (int i = 0; i < C::kStages; i++) {
      ptx::mbarrier_init(ptx::shared_address(&storage.pipeline.full[i]), 1);
      ptx::mbarrier_init(ptx::shared_address(&storage.pipeline.empty[i]), 4 * kConsumerGroups * C::kCluster);
    }
    for (int g = 0; g < kConsumerGroups; g++) ptx::mbarrier_init(ptx::shared_address(&storage.old[g]), 1);
    device::tile_ring_init(storage.ring, (4 * kConsumerGroups + 1) * C::kCluster);
    storage.plan.init(1 + 4 * kConsumerGroups);
    ptx::fence_barrier_init();
  }
  if constexpr (C::kCluster > 1) {
    ptx::cluster_sync();
  } else {
    __syncthreads();
  }
  const int item_count = *params.item_count;
  if (threadIdx.x >= 128 * kConsumerGroups) {
    ptx::give_registers<kProducerRegisters>();
    const int warp = __shfl_sync(0xffffffffu, threadIdx.x / 32 - 4 * kConsumerGroups, 0);
    if (warp == 0 && ptx::elect_one()) small_block_produce<C>(storage, &dense_map, params);
    if (warp == 1 && ptx::elect_one()) plan_stages<C::kCluster>(storage.plan, storage.ring, params, item_count);
  } else {
    ptx::take_registers<kConsumerRegisters>();
    small_block_consume<C>(storage, &out_map, params);
  }
  if constexpr (C::kCluster > 1) ptx::cluster_sync_unaligned();  // a CTA's memory must outlive its neighbours' arrivals
}

/// Adds the partial sums of split groups, slot after slot, and finishes them. blockIdx.x: token tile; y: split group.
template <typename C>
__global__ void __launch_bounds__(128 * kConsumerGroups)
    small_block_combine_kernel(const __grid_constant__ CUtensorMap out_map,
                               const __grid_constant__ ProductParams params) {
  __shared__ EpilogueStorage<4096, C::kBuffers> epilogue[kConsumerGroups];
  __shared__ std::uint64_t old[kConsumerGroups];
  const int group = threadIdx.x / 128;
  if (threadIdx.x % 128 == 0) {
    ptx::mbarrier_init(ptx::shared_address(&old[group]), 1);
    ptx::fence_barrier_init();
  }
  __syncthreads();
  ChunkWriter<typename C::Element, C::kLinear, C::kChunkTiles, !C::kLinear, C::kBuffers> writer(
      &out_map, params, ptx::shared_address(epilogue[group].staging), ptx::shared_address(&old[group]), group);
  for (int i = blockIdx.y; i < *params.split_count; i += gridDim.y) {
    const SplitGroup split = params.splits[i];
    const int row = (split.group * C::kRows + group * C::kGroupRows) * C::kBlock;
    SmallBlockAccumulators<C> acc;
    small_block_start<C>(acc, params, row, true);
    for (int slot = split.slot_begin; slot < split.slot_begin + split.slot_count; slot++) {
      const float* partial = small_block_partial<C>(params, slot, blockIdx.x);
#pragma unroll
      for (int j = 0; j < C::kGroupRows * C::kBlock; j++) {
        acc[j / C::kBlock][j / (C::kBlock / 2) % 2][j % (C::kBlock / 2)] += partial[j * 128 * kConsumerGroups];
      }
    }
    small_block_store<C>(acc, writer, row, blockIdx.x * C::kTokens);
  }
  writer.finish();
}

}  // namespace triage::sm90
