// Host side of sm80_gemm.h: from a validated call to kernel parameters and a launch.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "device/cuda_check.h"
#include "registry/kernel.h"
#include "sparse_gemm/sm80_gemm.h"
#include "sparse_gemm/sm80_matrix.h"
#include "sparse_gemm/sm80_tuning.h"

namespace triage::sm80 {

/// How a slot of the ring is laid out and how many fit.
struct RingLayout {
  std::int32_t slots, slot_bytes, blocks_offset, record_offset;
};

template <typename Config>
RingLayout ring_layout(const ScheduleSpec& spec, std::size_t ring_bytes) {
  RingLayout ring;
  ring.blocks_offset = spec.columns_per_stage * Config::kPanelBytes;
  ring.record_offset = ring.blocks_offset + spec.blocks_per_stage * Config::kBlockBytes;
  ring.slot_bytes = (ring.record_offset + static_cast<std::int32_t>(sizeof(StageRecord)) + 255) / 256 * 256;
  ring.slots = static_cast<std::int32_t>(std::min<std::size_t>(kMaxSlots, ring_bytes / ring.slot_bytes));
  return ring;
}

/// @param panel_columns N columns (tokens) that are worked on together, see TileWalk.
template <typename Config, int kMaxBlocks>
void launch_gemm(const SparseGemmCall& call, int panel_columns) {
  using Header = GemmSharedHeader<Config, kMaxBlocks>;
  const ScheduleView& schedule = call.schedule;
  const PatternView& pattern = call.pattern;
  const std::int64_t n = Config::kLinear ? call.in0.rows : call.in0.cols;
  if (call.out.rows == 0 || call.out.cols == 0) return;
  const std::size_t limit = call.device->shared_memory_per_block;
  const RingLayout ring = ring_layout<Config>(schedule.spec, limit - sizeof(Header));
  if (ring.slots < 2) {
    throw Error(ErrorCode::unsupported, "the schedule's stages do not fit the shared memory of " + call.device->name);
  }

  GemmParams p{};
  p.stages = schedule.stages;
  p.block_order = schedule.block_order;
  p.items = schedule.items;
  p.item_count = schedule.item_count;
  p.splits = schedule.splits;
  p.split_count = schedule.split_count;
  p.col = pattern.col;
  const std::int64_t ragged = pattern.cols % Config::kBlock;
  p.last_block_col = ragged != 0 ? pattern.block_cols - 1 : -1;
  p.last_block_cols = static_cast<std::int32_t>(ragged);
  p.dense = source_of(call.in0);
  p.values = {call.values, Config::kBlock, Config::kBlock, Config::kBlock, access_of(call.values, Config::kBlock)};
  p.n_tiles = static_cast<std::int32_t>((n + Config::kTileN - 1) / Config::kTileN);
  p.panel_tiles = std::max(1, panel_columns / Config::kTileN);
  p.slots = ring.slots;
  p.slot_bytes = ring.slot_bytes;
  p.blocks_offset = ring.blocks_offset;
  p.record_offset = ring.record_offset;
  p.partials = static_cast<float*>(call.workspace.data);
  p.epilogue = {call.out.data, call.out.stride, call.out.rows, call.out.cols, call.bias, call.alpha, call.beta,
                call.activation, access_of(call.out.data, call.out.stride) == Access::chunks};

  const auto stream = static_cast<cudaStream_t>(call.stream);
  const auto kernel = gemm_kernel<Config, kMaxBlocks>;
  const int bytes = static_cast<int>(sizeof(Header)) + ring.slots * ring.slot_bytes;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
             "cudaFuncSetAttribute of sm80 gemm");
  const std::int64_t tiles = std::int64_t{schedule.item_capacity} * p.n_tiles;
  const auto ctas = static_cast<unsigned>(std::min<std::int64_t>(tiles, call.device->multiprocessors));
  kernel<<<ctas, Config::kThreads, bytes, stream>>>(p);
  cuda_check(cudaGetLastError(), "launch of sm80 gemm");
  if (schedule.split_slots > 0) {
    const dim3 combine_ctas(128, static_cast<unsigned>(std::min(schedule.split_slots / 2, 64)));
    combine_kernel<typename Config::Element, Config::kLinear>
        <<<combine_ctas, 256, 0, stream>>>(p, Config::kTileM, std::int64_t{p.n_tiles} * Config::kTileN);
    cuda_check(cudaGetLastError(), "launch of sm80 combine");
  }
}

template <typename Element, bool kLinear, int kBlock>
using TunedGemm = GemmConfig<Element, kLinear, kBlock, gemm_shape(kBlock).slab, gemm_shape(kBlock).rows_per_warp,
                             gemm_shape(kBlock).warp_n, gemm_shape(kBlock).warp_rows, gemm_shape(kBlock).warp_cols,
                             gemm_shape(kBlock).producers, gemm_shape(kBlock).tiles_per_chunk,
                             gemm_shape(kBlock).sparse_buffers>;

/// From the call's dtype to the instantiation.
template <int kBlock, bool kLinear>
void launch_gemm_of_dtype(const SparseGemmCall& call) {
  constexpr int kMaxBlocks = gemm_shape(kBlock).max_blocks;
  const int panel_columns = gemm_stage(kBlock, call.device->shared_memory_per_block).panel_columns;
  if (call.problem.dtype == DType::float16) {
    launch_gemm<TunedGemm<__half, kLinear, kBlock>, kMaxBlocks>(call, panel_columns);
  } else {
    launch_gemm<TunedGemm<__nv_bfloat16, kLinear, kBlock>, kMaxBlocks>(call, panel_columns);
  }
}

}  // namespace triage::sm80
