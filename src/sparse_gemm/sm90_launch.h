// From a validated call to tensor maps, parameters and launches, for spmm and linear. Included by the files that hold
// the kernels' code.
#pragma once

#include <cuda_runtime.h>

#include "device/cuda_check.h"
#include "device/dependent_launch.h"
#include "device/tensor_map.h"
#include "sparse_gemm/sm90_few_columns_launch.h"
#include "sparse_gemm/sm90_pack.h"
#include "sparse_gemm/sm90_product.h"
#include "sparse_gemm/sm90_tuning.h"

namespace triage::sm90 {

/// Writes packed values; also clears the tile counter if one is given. Defined in sm90_pack.cu.
void pack_values(const SparseGemmCall& call, void* packed, std::int32_t* tile_counter);

/// Clears a tile counter, by a kernel that the next one need not wait for to start. Defined in sm90_pack.cu.
void clear_counter(std::int32_t* tile_counter, cudaStream_t stream);

/// Rows of a stride's matrix as TMA wants them: a single row may have any stride.
inline std::int64_t map_stride(const Matrix& matrix) { return std::max(matrix.stride, (matrix.cols + 7) / 8 * 8); }

inline CUtensorMap matrix_map(const Matrix& matrix, bool bfloat16, int box_rows, int box_cols) {
  return device::tensor_map(matrix.data, bfloat16, matrix.rows, matrix.cols, map_stride(matrix), box_rows, box_cols);
}

/// The map of the dense operand. spmm: slices of 64 tokens x `box_k` rows of B; linear: the tokens of a CTA x
/// `box_k` columns of X.
template <typename Config>
CUtensorMap dense_map(const SparseGemmCall& call, int box_k) {
  const bool bfloat16 = call.problem.dtype == DType::bfloat16;
  if (Config::kLinear) return matrix_map(call.in0, bfloat16, Config::kTokens, box_k);
  return device::sliced_tensor_map(call.in0.data, bfloat16, call.in0.rows, call.in0.cols, map_stride(call.in0), box_k,
                                   Config::kTokens / 64);
}

/// The map of the output, whose chunks are `rows` of the sparse matrix x `tokens`.
template <typename Config>
CUtensorMap output_map(const SparseGemmCall& call, int rows, int tokens) {
  const bool bfloat16 = call.problem.dtype == DType::bfloat16;
  return Config::kLinear ? matrix_map(call.out, bfloat16, tokens, rows) : matrix_map(call.out, bfloat16, rows, tokens);
}

/// A call's parameters, after its values have been packed if need be and its tile counter is on the way to zero.
template <typename Config>
ProductParams begin_product(const SparseGemmCall& call) {
  const SparseGemmProblem& problem = call.problem;
  const bool linear = problem.operation == Operation::linear;
  const ProductShape shape = product_shape(problem.block, linear, is_thin(call.pattern));
  const ProductWorkspace workspace = product_workspace(problem, call.schedule);
  auto* base = static_cast<std::uint8_t*>(call.workspace.data);

  ProductParams p;
  p.stages = call.schedule.stages;
  p.block_order = call.schedule.block_order;
  p.items = call.schedule.items;
  p.item_count = call.schedule.item_count;
  p.splits = call.schedule.splits;
  p.split_count = call.schedule.split_count;
  p.partial = reinterpret_cast<float*>(base + workspace.partial);
  p.tile_counter = reinterpret_cast<std::int32_t*>(base);
  p.packed = call.values;
  if (product_packs(problem)) {
    p.packed = base + workspace.packed;
    pack_values(call, base + workspace.packed, p.tile_counter);
  } else {
    clear_counter(p.tile_counter, static_cast<cudaStream_t>(call.stream));
  }
  const std::int64_t cluster_tokens = std::int64_t{Config::kTokens} * Config::kCluster;
  const std::int64_t panel = static_cast<std::int64_t>(call.device->l2_bytes) / shape.panel_share / (2 * problem.cols);
  p.token_tiles = static_cast<std::int32_t>((problem.dense + cluster_tokens - 1) / cluster_tokens);
  p.panel_tiles = static_cast<std::int32_t>(std::clamp<std::int64_t>(panel / cluster_tokens, 1, p.token_tiles));
  p.sliced_dense = call.in0.cols % 64 == 0;
  p.out_cols = static_cast<std::int32_t>(call.out.cols);
  p.bias = call.bias;
  p.alpha = call.alpha;
  p.beta = call.beta;
  p.activation = call.activation;
  return p;
}

/// Launches the main kernel on as many clusters as there is work for, and the one that adds up split groups.
template <typename Config, typename Storage, typename Kernel, typename Combine, typename... Maps>
void run_product(const SparseGemmCall& call, const ProductParams& params, Kernel kernel, Combine combine,
                 const CUtensorMap& out_map, const Maps&... in_maps) {
  static_assert(sizeof(Storage) <= kSharedMemory, "the configuration must fit the shared memory of a CTA");
  const auto stream = static_cast<cudaStream_t>(call.stream);
  cuda_check(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(sizeof(Storage))),
      "cudaFuncSetAttribute of an sm90 kernel");
  const std::int64_t tiles = std::int64_t{call.schedule.item_capacity} * params.token_tiles;
  const std::int64_t clusters = std::min<std::int64_t>(tiles, call.device->multiprocessors / Config::kCluster);
  device::launch_dependent(kernel, static_cast<unsigned>(clusters * Config::kCluster), kThreads, sizeof(Storage),
                           stream, "launch of an sm90 kernel", in_maps..., out_map, params);
  if (call.schedule.split_slots == 0) return;
  const dim3 ctas(static_cast<unsigned>(params.token_tiles * Config::kCluster),
                  static_cast<unsigned>(std::min(call.schedule.split_slots / 2, 65535)));
  combine<<<ctas, 128 * kConsumerGroups, 0, stream>>>(out_map, params);
  cuda_check(cudaGetLastError(), "launch of an sm90 combine kernel");
}

/// Calls launch<Element, kCluster, kThin>() as the call's dtype, width and density ask, or the kernel for few columns.
template <bool kLinear, int kBlock, typename Launch>
void dispatch_product(const SparseGemmCall& call, const Launch& launch) {
  const auto of_density = [&]<typename Element, int kCluster>() {
    if constexpr (!(product_shape(kBlock, kLinear, true) == product_shape(kBlock, kLinear, false))) {
      if (is_thin(call.pattern)) return launch.template operator()<Element, kCluster, true>();
    }
    launch.template operator()<Element, kCluster, false>();
  };
  const auto of_width = [&]<typename Element>() {
    if (takes_few_columns(call.problem)) return launch_few_columns<Element, kLinear>(call);
    if constexpr (kBlock != 16) {  // never in clusters
      if (product_cluster(call.problem) == 2) return of_density.template operator()<Element, 2>();
    }
    of_density.template operator()<Element, 1>();
  };
  if (call.problem.dtype == DType::float16) {
    of_width.template operator()<__half>();
  } else {
    of_width.template operator()<__nv_bfloat16>();
  }
}

}  // namespace triage::sm90
