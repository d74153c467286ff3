// spmm and linear for blocks of 64 and 128 on Hopper.
//
//   spmm:   C[row, token] = alpha * sum_k S[row, k] * B[k, token] + beta * C
//   linear: Y[token, row] = act(sum_k X[token, k] * S[row, k] + bias[row])
//
// Tile: the block rows of one group of the schedule times kTokens tokens. Strips of 64 rows of sparse blocks are
// wgmma's M side, kTokens tokens of the dense panel its N side, both from shared memory. Each consumer warpgroup owns
// kStrips strips: block rows of 64, or one half of a block row of 128. A slot of the pipeline holds 64 values of k: of
// up to kColumns union columns of the dense panel, and of the blocks that fall into them. Blocks of 64 pass in one
// slot, blocks of 128 in two. Since the number of blocks varies, a slot owns room for its columns alone; its strips lie
// in a ring of their own, one after the other, and are free again when the slot is.
//
// | warps | role     | work                                                                                        |
// |-------|----------|---------------------------------------------------------------------------------------------|
// | 0-3   | consumer | upper strips of the group: wgmma, epilogue                                                  |
// | 4-7   | consumer | lower strips                                                                                |
// | 8     | producer | one thread: TMA of dense columns (own tokens) and of canonical blocks (its share, to all)   |
// | 9     | planner  | one thread: next tiles and the records of their stages (sm90_plan.h)                        |
// | 10-11 | idle     | (setmaxnreg needs whole warpgroups)                                                         |
//
// | barrier  | arrivals                                     | completes when                                          |
// |----------|----------------------------------------------|---------------------------------------------------------|
// | full[s]  | 1 (own producer) + bytes                     | a slot's columns and blocks have arrived                |
// | empty[s] | 8 consumer warps of each CTA of the cluster  | nobody reads the slot any more                          |
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

/// @tparam kRows block rows per group. @tparam kColumns most union columns in a stage.
/// @tparam kSlots, kStripSlots room for columns and for strips.
/// @tparam kDeferred release a slot one slot late, so that two slots' products are in flight. @tparam kAhead see
/// PlanRing.
/// @tparam kHold see below.
template <typename ElementT, bool kLinearV, int kBlockV, int kRowsV, int kTokensV, int kColumnsV, int kSlotsV,
          int kStripSlotsV, int kClusterV, bool kDeferredV = false, int kChunkTilesV = 4, int kBuffersV = 2,
          int kAheadV = 8, bool kHoldV = false>
struct LargeBlockConfig {
  using Element = ElementT;
  static constexpr bool kLinear = kLinearV, kDeferred = kDeferredV;
  static constexpr int kBlock = kBlockV, kRows = kRowsV, kTokens = kTokensV, kColumns = kColumnsV, kSlots = kSlotsV,
                       kStripSlots = kStripSlotsV, kCluster = kClusterV, kChunkTiles = kChunkTilesV,
                       kBuffers = kBuffersV, kAhead = kAheadV;
  static constexpr int kSlotsPerStage = kBlock / 64;
  static constexpr int kStrips = kRows * kBlock / 64 / kConsumerGroups;  ///< of 64 rows, per consumer warpgroup
  static constexpr int kStripBytes = 64 * 64 * 2;                        ///< 64 rows x 64 k
  static constexpr int kStripsPerBlock = kBlock / 64;
  static constexpr int kBlocks = kRows * kColumns;       ///< most blocks in a stage
  static constexpr int kColumnBytes = 64 * kTokens * 2;  ///< a union column's share of a slot

  /// A finished tile stays in registers, two elements a word, and is stored while the first slots of the next one are
  /// being multiplied. There is room for that beside 128 accumulators.
  static constexpr bool kHold = kHoldV;
  static constexpr int kStripChunks = kTokens / (8 * kChunkTiles), kChunks = kStrips * kStripChunks;  ///< of output
  static constexpr int kHoldSlots = 4;
  static_assert(!kHold || (kStrips * kTokens / 2 <= 128 && kChunks % kHoldSlots == 0),
                "chunks are dealt to slots evenly");
  static_assert(kBlock == 64 || kBlock == 128, "a strip of 64 rows is wgmma's M side");
  static_assert(kStrips >= 1 && kStrips * kConsumerGroups * 64 == kRows * kBlock,
                "each warpgroup must own whole strips");
  static_assert(kBlock == 64 || (kRows == 1 && kColumns == 1), "a slot holds half of one block of 128");
  static_assert(kBlock == 64 || kStripSlots % 2 == 0, "a block of 128 does not wrap around");
  static_assert(kStripSlots >= kBlocks * kStripsPerBlock, "the fullest stage must fit");
  static_assert(kStrips * kTokens / 2 <= 192, "more than 192 accumulators a thread do not fit 232 registers");
  static_assert(kTokens % (8 * kChunkTiles) == 0, "whole output chunks");
  static_assert(kColumns <= kMaxColumnsPerStage && kSlots <= 8, "a byte of a word keeps the strip count of each slot");
};

template <typename C>
struct LargeBlockStorage {
  alignas(1024) std::uint8_t dense[C::kSlots][C::kColumns * C::kColumnBytes];
  alignas(1024) std::uint8_t strips[C::kStripSlots][C::kStripBytes];
  EpilogueStorage<1024 * C::kChunkTiles, C::kBuffers> epilogue[kConsumerGroups];
  device::PipelineBarriers<C::kSlots> pipeline;
  device::TileRing ring;
  PlanRing<C::kAhead, C::kRows == 1 ? 0 : C::kBlocks> plan;
  std::uint64_t old[kConsumerGroups];
};

/// One thread: fills slots for every tile of the CTA. From its registers a copy costs some ten cycles; with an election
/// or a loop over lanes for each, about a hundred.
template <typename C>
__device__ __forceinline__ void large_block_produce(LargeBlockStorage<C>& storage, const CUtensorMap* dense_map,
                                                    const CUtensorMap* values_map, const ProductParams& params) {
  const int rank = C::kCluster > 1 ? ptx::cluster_cta_rank() : 0;
  int slot = 0, strip = 0;                     // where the next columns and the next strip go
  device::PipelineState<C::kSlots> oldest(0);  // of the slots in flight
  int in_flight = 0, strips_in_flight = 0;
  std::uint64_t strips_of_slots = 0;  // a byte a slot
  PlanReader plan(storage.plan);
  ptx::wait_for_earlier_kernels();  // packed values

  while (plan.next()) {
    const int token = (plan.token_tile * C::kCluster + rank) * C::kTokens;
    const int columns = plan.record().column_count, strips = plan.record().block_count * C::kStripsPerBlock;
    const RecordColumns<C::kColumns> in(plan.record());
#pragma unroll
    for (int part = 0; part < C::kSlotsPerStage; part++) {
      // Frees the oldest slots until this one and the room for its strips are free.
      while (in_flight == C::kSlots || strips_in_flight + strips > C::kStripSlots) {
        ptx::mbarrier_wait(ptx::shared_address(&storage.pipeline.empty[oldest.slot]), oldest.parity);
        strips_in_flight -= static_cast<int>(strips_of_slots >> 8 * oldest.slot & 0xff);
        in_flight--;
        oldest.advance();
      }
      const std::uint32_t full = ptx::shared_address(&storage.pipeline.full[slot]);
      const std::uint32_t dense = ptx::shared_address(storage.dense[slot]);
      ptx::barrier_expect(full, columns * C::kColumnBytes + strips * C::kStripBytes);
#pragma unroll
      for (int j = 0; j < C::kColumns; j++) {
        if (j >= columns) break;
        const int k = in.column[j] * C::kBlock + part * 64;
        const std::uint32_t place = dense + j * C::kColumnBytes;
        if constexpr (C::kLinear) {  // a box: kTokens tokens x 64 k
          ptx::tma_load(place, dense_map, full, k, token, params.dense_policy);
        } else if (params.sliced_dense) {  // slices of 64 tokens x 64 k
          ptx::tma_load_3d(place, dense_map, full, 0, k, token / 64, params.dense_policy);
        } else {
          for (int slice = 0; slice < C::kTokens / 64; slice++) {
            ptx::tma_load_3d(place + slice * (64 * 128), dense_map, full, token + slice * 64, k, 0,
                             params.dense_policy);
          }
        }
      }
      // Strips of 64 rows x 64 k. In a cluster, the CTAs take turns, each delivers to all.
#pragma unroll 1
      for (int i = rank; i < strips; i += C::kCluster) {
        // A group of one block row takes its blocks in the order in which they lie.
        const int id =
            C::kRows == 1 ? plan.record().first_block + i / C::kStripsPerBlock : plan.id(i / C::kStripsPerBlock);
        const int y = id * C::kBlock + i % C::kStripsPerBlock * 64;
        const int strip_slot = strip + i < C::kStripSlots ? strip + i : strip + i - C::kStripSlots;
        const std::uint32_t place = ptx::shared_address(storage.strips[strip_slot]);
        if constexpr (C::kCluster > 1) {
          ptx::tma_load_multicast(place, values_map, full, part * 64, y, (1 << C::kCluster) - 1, params.values_policy);
        } else {
          ptx::tma_load(place, values_map, full, part * 64, y, params.values_policy);
        }
      }
      strips_of_slots = (strips_of_slots & ~(std::uint64_t{0xff} << 8 * slot)) | std::uint64_t(strips) << 8 * slot;
      in_flight++;
      strips_in_flight += strips;
      strip = strip + strips < C::kStripSlots ? strip + strips : strip + strips - C::kStripSlots;
      slot = slot + 1 < C::kSlots ? slot + 1 : 0;
    }
    plan.release();
  }
}

template <typename C>
using LargeBlockAccumulators = float[C::kStrips][C::kTokens / 2];

/// acc += strip[64, 64] * dense[64, kTokens]: four steps of k.
template <typename C>
__device__ __forceinline__ void large_block_multiply(float (&acc)[C::kTokens / 2], std::uint32_t strip,
                                                     std::uint32_t dense) {
  constexpr ptx::Major kDenseMajor = C::kLinear ? ptx::Major::k : ptx::Major::mn;
  constexpr std::uint32_t kUpper = ptx::descriptor_upper(1024, ptx::Swizzle::bytes128);  // of both operands
  constexpr int kDenseStep = (C::kLinear ? 32 : 16 * 128) / 16;
#pragma unroll
  for (int k = 0; k < 4; k++) {
    ptx::wgmma<typename C::Element, C::kTokens, ptx::Major::k, kDenseMajor>(
        acc, ptx::descriptor(kUpper, strip + 2 * k), ptx::descriptor(kUpper, dense + k * kDenseStep));
  }
}

/// Accumulators at the start of a tile: zero, or the bias of linear.
template <typename C>
__device__ __forceinline__ void large_block_start(LargeBlockAccumulators<C>& acc, const ProductParams& params, int row,
                                                  bool with_bias) {
  const int count = C::kLinear && with_bias && params.bias != nullptr ? params.out_cols : 0;
#pragma unroll
  for (int r = 0; r < C::kStrips; r++) {
    const int col =
        row + r * 64 + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;  // this thread's rows of the strip
    const float low = C::kLinear ? bias_at<typename C::Element>(params, col, count) : 0.0f;
    const float high = C::kLinear ? bias_at<typename C::Element>(params, col + 8, count) : 0.0f;
#pragma unroll
    for (int i = 0; i < C::kTokens / 2; i++) acc[r][i] = i % 4 < 2 ? low : high;
  }
}

/// Writes a finished tile: chunks of 64 rows x 8 * kChunkTiles tokens.
template <typename C, typename Writer>
__device__ __forceinline__ void large_block_store(LargeBlockAccumulators<C>& acc, Writer& writer, int row, int token) {
#pragma unroll
  for (int r = 0; r < C::kStrips; r++) {
#pragma unroll
    for (int first = 0; first < C::kTokens / 8; first += C::kChunkTiles) {
      float x[4 * C::kChunkTiles];
#pragma unroll
      for (int i = 0; i < 4 * C::kChunkTiles; i++) x[i] = acc[r][4 * first + i];
      if constexpr (C::kLinear) {
        writer.write(x, token + 8 * first, row + 64 * r);
      } else {
        writer.write(x, row + 64 * r, token + 8 * first);
      }
    }
  }
}

/// Partial sums of a split item: [slot][token tile][register][thread], so that neighbouring threads write neighbours.
template <typename C>
__device__ __forceinline__ float* large_block_partial(const ProductParams& params, int slot, int token_tile) {
  constexpr std::int64_t kFloats = C::kStrips * C::kTokens / 2 * 128 * kConsumerGroups;
  return params.partial + (static_cast<std::int64_t>(slot) * params.token_tiles * C::kCluster + token_tile) * kFloats +
         threadIdx.x;
}

/// Stores some chunks of a tile that was held in registers.
template <typename C, int kFirst, int kCount, typename Words, typename Put>
__device__ __forceinline__ void put_held_from(const Words& held, const Put& put) {
#pragma unroll
  for (int i = kFirst; i < kFirst + kCount; i++) put(held[i], i);
}

/// One of two warpgroups: multiplies and writes its strips of every tile.
template <typename C>
__device__ __forceinline__ void large_block_consume(LargeBlockStorage<C>& storage, const CUtensorMap* out_map,
                                                    const ProductParams& params) {
  const int lane = threadIdx.x % 32;
  const int group = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
  const int rank = C::kCluster > 1 ? ptx::cluster_cta_rank() : 0;
  device::TileReader<C::kCluster> tiles(storage.ring);
  device::PipelineState<C::kSlots> state(0);
  MaskReader<PlanRing<C::kAhead, C::kRows == 1 ? 0 : C::kBlocks>, C::kStrips> stage_masks(storage.plan, group, lane);
  using Writer = ChunkWriter<typename C::Element, C::kLinear, C::kChunkTiles, C::kLinear, C::kBuffers>;
  Writer writer(out_map, params, ptx::shared_address(storage.epilogue[group].staging),
                ptx::shared_address(&storage.old[group]), group);
  // Lane i of each warp releases a slot to CTA i of the cluster.
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

  const std::uint32_t strips = ptx::descriptor_lower(ptx::shared_address(storage.strips));
  int first_strip = 0;  // of the next slot
  LargeBlockAccumulators<C> acc;
  // Waits for a slot, starts its products, does something else, and releases what has been read.
  const auto multiply_slot = [&](int s, [[maybe_unused]] bool last, const auto& meanwhile) {
    const std::uint32_t dense = ptx::descriptor_lower(ptx::shared_address(storage.dense[state.slot]), 64 * 128);
    if constexpr (C::kBlock == 128) {
      const std::uint32_t strip = strips + (first_strip + group) * (C::kStripBytes / 16);
      first_strip = first_strip + 2 < C::kStripSlots ? first_strip + 2 : 0;
      ptx::mbarrier_wait(ptx::shared_address(&storage.pipeline.full[state.slot]), state.parity);
      ptx::wgmma_fence();
      large_block_multiply<C>(acc[0], strip, dense);
    } else {
      int place = first_strip + stage_masks.first_block;
      first_strip += stage_masks.block_count;
      if (place >= C::kStripSlots) place -= C::kStripSlots;
      if (first_strip >= C::kStripSlots) first_strip -= C::kStripSlots;
      const auto next_strip = [&] {
        const std::uint32_t strip = strips + place * (C::kStripBytes / 16);
        if (++place == C::kStripSlots) place = 0;
        return strip;
      };
      ptx::mbarrier_wait(ptx::shared_address(&storage.pipeline.full[state.slot]), state.parity);
      ptx::wgmma_fence();
#pragma unroll
      for (int r = 0; r < C::kStrips; r++) {
        std::uint32_t mask = stage_masks.masks[r];
        if constexpr (C::kColumns == 1) {
          if (mask != 0) {
            large_block_multiply<C>(acc[r], next_strip(), dense);
          }
        } else {
#pragma unroll 1
          while (mask != 0) {
            const std::uint32_t c = __ffs(mask) - 1;
            mask &= mask - 1;
            large_block_multiply<C>(acc[r], next_strip(), dense + c * (C::kColumnBytes / 16));
          }
        }
      }
    }
    ptx::wgmma_commit();
    if (C::kBlock == 64 && !last) stage_masks.next();
    meanwhile();
    if constexpr (C::kDeferred) {
      ptx::wgmma_wait<1>();
      if (s > 0) release(state.slot == 0 ? C::kSlots - 1 : state.slot - 1);
    } else {
      ptx::wgmma_wait<0>();
      release(state.slot);
    }
    state.advance();
  };

  // The tile before, finished but not yet stored.
  [[maybe_unused]] typename Writer::Words held[C::kHold ? C::kChunks : 1];
  int held_row = -1, held_token = 0;
  const auto put_chunk = [&](const auto& words, int chunk) {
    const int row = held_row + chunk / C::kStripChunks * 64,
              token = held_token + chunk % C::kStripChunks * (8 * C::kChunkTiles);
    C::kLinear ? writer.put(words, token, row) : writer.put(words, row, token);
  };

  const auto tile_row = [&](const device::TileInfo& of) {  // the first of this warpgroup
    return of.group * C::kRows * C::kBlock + group * C::kStrips * 64;
  };
  device::TileInfo tile = tiles.next(lane);
  while (tile.group >= 0) {
    const int row = tile_row(tile);
    large_block_start<C>(acc, params, row, tile.split_slot < 0);
    const int slots = tile.stage_count * C::kSlotsPerStage;
    if (C::kBlock == 64 && slots > 0) stage_masks.next();
    if constexpr (C::kHold) {
      if (held_row >= 0 && slots < C::kHoldSlots) put_held_from<C, 0, C::kChunks>(held, put_chunk);
      if (slots < C::kHoldSlots) held_row = -1;
    }
    for (int s = 0; s < slots; s++) {
      multiply_slot(s, s + 1 == slots, [&] {
        if constexpr (C::kHold) {
          constexpr int kPart = C::kChunks / C::kHoldSlots;
          if (held_row >= 0) {
            if (s == 0) put_held_from<C, 0, kPart>(held, put_chunk);
            if (s == 1) put_held_from<C, kPart, kPart>(held, put_chunk);
            if (s == 2) put_held_from<C, 2 * kPart, kPart>(held, put_chunk);
            if (s == 3) put_held_from<C, 3 * kPart, kPart>(held, put_chunk);
            if (s == 3) held_row = -1;
          }
        }
      });
    }
    if constexpr (C::kDeferred) {
      ptx::wgmma_wait<0>();
      if (slots > 0) release(state.slot == 0 ? C::kSlots - 1 : state.slot - 1);
    }
#pragma unroll
    for (int r = 0; r < C::kStrips; r++) ptx::wgmma_settle(acc[r]);

    const device::TileInfo done = tile;
    tile = tiles.next(lane);
    if (C::kLinear) prefetch_bias<typename C::Element, C::kStrips * 64>(params, tile_row(tile));

    const int token_tile = done.token_tile * C::kCluster + rank, token = token_tile * C::kTokens;
    if (done.split_slot >= 0) {
      float* partial = large_block_partial<C>(params, done.split_slot, token_tile);
#pragma unroll
      for (int i = 0; i < C::kStrips * C::kTokens / 2; i++) {
        partial[i * 128 * kConsumerGroups] = acc[i / (C::kTokens / 2)][i % (C::kTokens / 2)];
      }
    } else if (C::kHold && params.beta == 0.0f) {
      held_row = row;
      held_token = token;
#pragma unroll
      for (int i = 0; i < C::kChunks; i++) {
        float x[4 * C::kChunkTiles];
#pragma unroll
        for (int j = 0; j < 4 * C::kChunkTiles; j++) {
          x[j] = acc[i / C::kStripChunks][i % C::kStripChunks * (4 * C::kChunkTiles) + j];
        }
        writer.pack(x, held[C::kHold ? i : 0]);
      }
    } else {
      large_block_store<C>(acc, writer, row, token);
    }
  }
  if constexpr (C::kHold) {
    if (held_row >= 0) put_held_from<C, 0, C::kChunks>(held, put_chunk);
  }
  writer.finish();
}

template <typename C>
__global__ void __launch_bounds__(kThreads, 1) __cluster_dims__(C::kCluster, 1, 1)
    large_block_kernel(const __grid_constant__ CUtensorMap dense_map, const __grid_constant__ CUtensorMap values_map,
                       const __grid_constant__ CUtensorMap out_map, const __grid_constant__ ProductParams params) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  auto& storage = *reinterpret_cast<LargeBlockStorage<C>*>(shared);
  if (threadIdx.x == 0) {
    ptx::tma_prefetch(&dense_map);
    ptx::tma_prefetch(&values_map);
    ptx::tma_prefetch(&out_map);
    for (int i = 0; i < C::kSlots; i++) {
      ptx::mbarrier_init(ptx::shared_address(&storage.pipeline.full[i]), 1);
      ptx::mbarrier_init(ptx::shared_address(&storage.pipeline.empty[i]), 4 * kConsumerGroups * C::kCluster);
    }
    for (int g = 0; g < kConsumerGroups; g++) ptx::mbarrier_init(ptx::shared_address(&storage.old[g]), 1);
    device::tile_ring_init(storage.ring, (4 * kConsumerGroups + 1) * C::kCluster);
    storage.plan.init(C::kBlock == 64 ? 1 + 4 * kConsumerGroups : 1);
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
    if (warp == 0 && ptx::elect_one()) large_block_produce<C>(storage, &dense_map, &values_map, params);
    if (warp == 1 && ptx::elect_one()) plan_stages<C::kCluster>(storage.plan, storage.ring, params, item_count);
  } else {
    ptx::take_registers<kConsumerRegisters>();
    large_block_consume<C>(storage, &out_map, params);
  }
  if constexpr (C::kCluster > 1) ptx::cluster_sync_unaligned();  // a CTA's memory must outlive its neighbours' arrivals
}

/// Adds the partial sums of split groups, slot after slot, and finishes them. blockIdx.x: token tile; y: split group.
template <typename C>
__global__ void __launch_bounds__(128 * kConsumerGroups)
    large_block_combine_kernel(const __grid_constant__ CUtensorMap out_map,
                               const __grid_constant__ ProductParams params) {
  __shared__ EpilogueStorage<1024 * C::kChunkTiles, C::kBuffers> epilogue[kConsumerGroups];
  __shared__ std::uint64_t old[kConsumerGroups];
  const int group = threadIdx.x / 128;
  if (threadIdx.x % 128 == 0) {
    ptx::mbarrier_init(ptx::shared_address(&old[group]), 1);
    ptx::fence_barrier_init();
  }
  __syncthreads();
  ChunkWriter<typename C::Element, C::kLinear, C::kChunkTiles, C::kLinear, C::kBuffers> writer(
      &out_map, params, ptx::shared_address(epilogue[group].staging), ptx::shared_address(&old[group]), group);
  for (int i = blockIdx.y; i < *params.split_count; i += gridDim.y) {
    const SplitGroup split = params.splits[i];
    const int row = split.group * C::kRows * C::kBlock + group * C::kStrips * 64;
    LargeBlockAccumulators<C> acc;
    large_block_start<C>(acc, params, row, true);
    for (int slot = split.slot_begin; slot < split.slot_begin + split.slot_count; slot++) {
      const float* partial = large_block_partial<C>(params, slot, blockIdx.x);
#pragma unroll
      for (int j = 0; j < C::kStrips * C::kTokens / 2; j++) {
        acc[j / (C::kTokens / 2)][j % (C::kTokens / 2)] += partial[j * 128 * kConsumerGroups];
      }
    }
    large_block_store<C>(acc, writer, row, blockIdx.x * C::kTokens);
  }
  writer.finish();
}

}  // namespace triage::sm90
