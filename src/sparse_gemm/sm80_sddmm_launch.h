// Host side of sm80_sddmm.h: from a validated call to kernel parameters and a launch.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "device/cuda_check.h"
#include "registry/kernel.h"
#include "sparse_gemm/sm80_matrix.h"
#include "sparse_gemm/sm80_sddmm.h"
#include "sparse_gemm/sm80_tuning.h"

namespace triage::sm80 {

template <typename Config>
void launch_sddmm_kernel(const SparseGemmCall& call) {
  const PatternView& pattern = call.pattern;
  if (pattern.nnz_blocks == 0) return;
  SddmmParams p{};
  p.crow = pattern.crow;
  p.col = pattern.col;
  p.row = pattern.row;
  p.block_rows = pattern.block_rows;
  p.rows = pattern.rows;
  p.cols = pattern.cols;
  p.x = source_of(call.in0);
  p.y = source_of(call.in1);
  p.inner = call.problem.dense;
  p.nnz = pattern.nnz_blocks;
  const SddmmSplit split = sddmm_split(call.problem, *call.device);
  // By columns unless large blocks make rows short (few units, whose numbers the CTAs would share unevenly), or the
  // pattern is so sparse that the search for units would take long.
  const std::int64_t turns = (pattern.block_cols + Config::kUnitBlocks - 1) / Config::kUnitBlocks;
  p.columns_first = Config::kBlock < 64 &&
                    turns * pattern.block_rows <= std::min(16 * std::int64_t{split.units}, std::int64_t{1} << 26);
  p.units = static_cast<std::uint32_t>(p.columns_first ? turns * pattern.block_rows : split.units);
  p.splits = split.splits;
  p.slabs_per_split = split.slabs_per_split;
  p.partials = static_cast<float*>(call.workspace.data);
  p.epilogue.out = call.values;
  p.epilogue.stride = Config::kBlock;
  p.epilogue.alpha = call.alpha;
  p.epilogue.beta = call.beta;
  p.epilogue.aligned16 = access_of(call.values, Config::kBlock) == Access::chunks;

  p.slots = static_cast<std::int32_t>(call.device->shared_memory_per_block / Config::kSlotBytes);
  if (p.slots < 2) {
    throw Error(ErrorCode::unsupported, "sm80 sddmm needs " + std::to_string(2 * Config::kSlotBytes) +
                                            " bytes of shared memory, " + call.device->name + " offers less");
  }
  const int bytes = p.slots * Config::kSlotBytes;
  const auto stream = static_cast<cudaStream_t>(call.stream);
  const auto kernel = sddmm_kernel<Config>;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
             "cudaFuncSetAttribute of sm80 sddmm");
  const std::int64_t work = std::int64_t{split.units} * p.splits;
  const auto ctas = static_cast<unsigned>(std::min<std::int64_t>(work, call.device->multiprocessors));
  kernel<<<ctas, Config::kThreads, bytes, stream>>>(p);
  cuda_check(cudaGetLastError(), "launch of sm80 sddmm");
  if (p.splits > 1) {
    const std::int64_t elements = p.nnz * Config::kBlock * Config::kBlock;
    const auto combine_ctas =
        static_cast<unsigned>(std::min<std::int64_t>((elements + 255) / 256, 16 * call.device->multiprocessors));
    sddmm_combine_kernel<typename Config::Element><<<combine_ctas, 256, 0, stream>>>(p, Config::kBlock);
    cuda_check(cudaGetLastError(), "launch of sm80 sddmm combine");
  }
}

/// From the call's dtype and layout to the instantiation.
template <int kBlock>
void launch_sddmm_of_type(const SparseGemmCall& call) {
  constexpr SddmmShape shape = sddmm_shape(kBlock);
  const auto launch = [&]<typename Element, bool kTransposed>() {
    launch_sddmm_kernel<SddmmConfig<Element, kTransposed, kBlock, shape.unit_blocks, shape.warp_m, shape.warp_n>>(call);
  };
  const bool half = call.problem.dtype == DType::float16, transposed = call.problem.sddmm_layout == SddmmLayout::xt_y;
  if (half && transposed) launch.template operator()<__half, true>();
  if (half && !transposed) launch.template operator()<__half, false>();
  if (!half && transposed) launch.template operator()<__nv_bfloat16, true>();
  if (!half && !transposed) launch.template operator()<__nv_bfloat16, false>();
}

}  // namespace triage::sm80
