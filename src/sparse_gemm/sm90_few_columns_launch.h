// Host side of sm90_few_columns.h: from a validated call to a launch.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <bit>

#include "device/cuda_check.h"
#include "registry/kernel.h"
#include "sparse_gemm/sm90_few_columns.h"
#include "sparse_gemm/sm90_tuning.h"

namespace triage::sm90 {

template <typename Element, bool kLinear, int kTiles>
void launch_few_columns_of_width(const SparseGemmCall& call) {
  using Config = FewColumnsConfig<Element, kLinear, kTiles>;
  const SparseGemmProblem& problem = call.problem;
  FewColumnsParams p;
  p.crow = call.pattern.crow;
  p.col = call.pattern.col;
  p.values = static_cast<const std::uint16_t*>(call.values);
  p.dense = static_cast<const std::uint16_t*>(call.in0.data);
  p.dense_stride = call.in0.stride;
  p.cols = static_cast<std::int32_t>(problem.cols);
  p.columns = static_cast<std::int32_t>(problem.dense);
  p.block_shift = std::countr_zero(static_cast<unsigned>(problem.block));
  p.epilogue = {call.out.data, call.out.stride, call.out.rows,   call.out.cols, call.bias,
                call.alpha,    call.beta,       call.activation, false};
  const std::int64_t strips = std::int64_t{call.pattern.block_rows} * (problem.block / 16);
  const FewColumnsShape shape = few_columns_shape(problem, strips, Config::kMaxWarps, call.device->multiprocessors);
  p.splits = shape.splits;

  const auto stream = static_cast<cudaStream_t>(call.stream);
  if constexpr (Config::kPacked) {
    p.packed_dense = static_cast<uint4*>(call.workspace.data);
    const std::int64_t pieces = std::int64_t{call.pattern.block_cols} * (problem.block / 8);
    few_columns_pack_kernel<Config>
        <<<static_cast<unsigned>((pieces * 8 * kTiles + 255) / 256), 256, 0, stream>>>(p, pieces);
    cuda_check(cudaGetLastError(), "launch of sm90 few columns, packing");
  }
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {static_cast<unsigned>(p.splits), 1, 1};
  // It starts while the kernel ahead ends, but not beside one that packs for it: CTAs that start as that one's end are
  // spread badly, and 64 columns took half as much again.
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(strips * p.splits));
  config.blockDim = dim3(shape.warps * 32);
  config.dynamicSmemBytes = static_cast<std::size_t>(Config::shared_bytes(shape.warps));
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = Config::kPacked ? 1 : 2;
  cuda_check(cudaLaunchKernelEx(&config, few_columns_kernel<Config>, p), "launch of sm90 few columns");
}

template <typename Element, bool kLinear>
void launch_few_columns(const SparseGemmCall& call) {
  static_assert(kFewColumns == 64, "the widest configuration has 8 tiles of 8");
  if (call.problem.dense <= 8) return launch_few_columns_of_width<Element, kLinear, 1>(call);
  if (call.problem.dense <= 16) return launch_few_columns_of_width<Element, kLinear, 2>(call);
  if (call.problem.dense <= 32) return launch_few_columns_of_width<Element, kLinear, 4>(call);
  launch_few_columns_of_width<Element, kLinear, 8>(call);
}

// Instantiated in sm90_few_columns.cu.
extern template void launch_few_columns<__half, false>(const SparseGemmCall&);
extern template void launch_few_columns<__half, true>(const SparseGemmCall&);
extern template void launch_few_columns<__nv_bfloat16, false>(const SparseGemmCall&);
extern template void launch_few_columns<__nv_bfloat16, true>(const SparseGemmCall&);

}  // namespace triage::sm90
