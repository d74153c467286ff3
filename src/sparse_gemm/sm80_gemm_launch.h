// Host side of sm80_gemm.h: from a validated call to kernel parameters and a launch.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "device/cuda_check.h"
#include "registry/kernel.h"
#include "sparse_gemm/sm80_gemm.h"
#include "sparse_gemm/sm80_matrix.h"
#include "sparse_gemm/sm80_narrow.h"
#include "sparse_gemm/sm80_tuning.h"

namespace triage::sm80 {

/// Where things lie in shared memory; see GemmParams.
struct GemmLayout {
  std::int32_t order_stride, ring_offset, slots, slot_bytes, blocks_offset, tail_offset;
  int bytes() const { return ring_offset + slots * slot_bytes; }
};

template <typename Config>
GemmLayout gemm_layout(const ScheduleSpec& spec, std::size_t shared_memory) {
  const auto align = [](std::int32_t bytes) { return (bytes + 127) / 128 * 128; };
  GemmLayout layout;
  layout.order_stride = (spec.blocks_per_stage + 31) / 32 * 32;
  layout.ring_offset =
      align(static_cast<std::int32_t>(sizeof(GemmSharedHeader)) + Config::kProducers * layout.order_stride * 4);
  layout.blocks_offset = spec.columns_per_stage * Config::PanelLayout::kBytes;
  layout.tail_offset = layout.blocks_offset + spec.blocks_per_stage * Config::BlockLayout::kBytes;
  layout.slot_bytes = align(layout.tail_offset + static_cast<std::int32_t>(sizeof(SlotTail)));
  const auto room = static_cast<std::int32_t>(shared_memory) - layout.ring_offset;
  layout.slots = room / layout.slot_bytes;
  return layout;
}

/// @param panel_columns N columns (tokens) that are worked on together, see TileWalk.
template <typename Config>
void launch_gemm(const SparseGemmCall& call, int panel_columns) {
  const ScheduleView& schedule = call.schedule;
  const PatternView& pattern = call.pattern;
  const std::int64_t n = Config::kLinear ? call.in0.rows : call.in0.cols;
  if (call.out.rows == 0 || call.out.cols == 0) return;
  const GemmLayout layout = gemm_layout<Config>(schedule.spec, call.device->shared_memory_per_block);
  if (layout.slots < 2 || schedule.spec.blocks_per_stage > Config::kMaxBlocks) {
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
  p.order_stride = layout.order_stride;
  p.ring_offset = layout.ring_offset;
  p.slots = layout.slots;
  p.slot_bytes = layout.slot_bytes;
  p.blocks_offset = layout.blocks_offset;
  p.tail_offset = layout.tail_offset;
  const std::int64_t tiles = std::int64_t{schedule.item_capacity} * p.n_tiles;
  const GemmWorkspace workspace = gemm_workspace(
      tiles, std::int64_t{schedule.split_slots} * Config::kTileM * p.n_tiles * Config::kTileN, *call.device);
  auto* const scratch = static_cast<std::byte*>(call.workspace.data);
  p.tile_counter = workspace.has_counter ? reinterpret_cast<std::uint32_t*>(scratch) : nullptr;
  p.partials = reinterpret_cast<float*>(scratch + workspace.partials_offset);
  p.epilogue = {call.out.data, call.out.stride, call.out.rows,
                call.out.cols, call.bias,       call.alpha,
                call.beta,     call.activation, access_of(call.out.data, call.out.stride) == Access::chunks};

  const auto stream = static_cast<cudaStream_t>(call.stream);
  const auto kernel = gemm_kernel<Config>;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, layout.bytes()),
             "cudaFuncSetAttribute of sm80 gemm");
  if (workspace.has_counter) {
    cuda_check(cudaMemsetAsync(p.tile_counter, 0, sizeof(*p.tile_counter), stream),
               "cudaMemsetAsync of sm80 gemm's counter");
  }
  const auto ctas = static_cast<unsigned>(std::min<std::int64_t>(tiles, call.device->multiprocessors));
  kernel<<<ctas, Config::kThreads, layout.bytes(), stream>>>(p);
  cuda_check(cudaGetLastError(), "launch of sm80 gemm");
  if (schedule.split_slots > 0) {
    const dim3 combine_ctas(128, static_cast<unsigned>(std::min(schedule.split_slots / 2, 64)));
    combine_kernel<typename Config::Element, Config::kLinear>
        <<<combine_ctas, 256, 0, stream>>>(p, Config::kTileM, std::int64_t{p.n_tiles} * Config::kTileN);
    cuda_check(cudaGetLastError(), "launch of sm80 combine");
  }
}

/// For few columns, see sm80_narrow.h. Reads the pattern, not the schedule.
template <typename Config>
void launch_narrow(const SparseGemmCall& call) {
  const PatternView& pattern = call.pattern;
  const std::int64_t n = Config::kLinear ? call.in0.rows : call.in0.cols;
  if (call.out.rows == 0 || call.out.cols == 0) return;
  NarrowParams p{};
  p.crow = pattern.crow;
  p.col = pattern.col;
  const std::int64_t ragged = pattern.cols % Config::kBlock;
  p.last_block_col = ragged != 0 ? pattern.block_cols - 1 : -1;
  p.last_block_cols = static_cast<std::int32_t>(ragged);
  p.dense = source_of(call.in0);
  p.values = {call.values, Config::kBlock, Config::kBlock, Config::kBlock, access_of(call.values, Config::kBlock)};
  p.epilogue = {call.out.data, call.out.stride, call.out.rows,   call.out.cols, call.bias,
                call.alpha,    call.beta,       call.activation, false};
  const auto kernel = narrow_kernel<Config>;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Config::kSharedBytes),
             "cudaFuncSetAttribute of sm80 narrow gemm");
  const dim3 ctas(static_cast<unsigned>(pattern.block_rows * (Config::kBlock / Config::kRows)),
                  static_cast<unsigned>((n + Config::kColumns - 1) / Config::kColumns));
  kernel<<<ctas, Config::kWarps * 32, Config::kSharedBytes, static_cast<cudaStream_t>(call.stream)>>>(p);
  cuda_check(cudaGetLastError(), "launch of sm80 narrow gemm");
}

template <typename Element, bool kLinear, int kBlock>
using TunedGemm =
    GemmConfig<Element, kLinear, kBlock, gemm_shape(kBlock).slab, gemm_shape(kBlock).rows_per_warp,
               gemm_shape(kBlock).warp_n, gemm_shape(kBlock).warp_rows, gemm_shape(kBlock).warp_cols,
               gemm_shape(kBlock).tiles_per_chunk, gemm_shape(kBlock).sparse_buffers, gemm_shape(kBlock).max_blocks>;

/// From the call's dtype and width to the instantiation.
template <int kBlock, bool kLinear>
void launch_gemm_of_type(const SparseGemmCall& call) {
  const bool narrow = is_narrow(call.problem, *call.device);
  const int panel_columns = gemm_stage(kBlock, call.device->shared_memory_per_block).panel_columns;
  const auto launch = [&]<typename Element>() {
    if (narrow) {
      launch_narrow<NarrowConfig<Element, kLinear, kBlock>>(call);
    } else {
      launch_gemm<TunedGemm<Element, kLinear, kBlock>>(call, panel_columns);
    }
  };
  if (call.problem.dtype == DType::float16) {
    launch.template operator()<__half>();
  } else {
    launch.template operator()<__nv_bfloat16>();
  }
}

}  // namespace triage::sm80
