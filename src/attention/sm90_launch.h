// From a validated call to tensor maps, parameters and the launch. Included by the files that hold the kernels' code.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>

#include "attention/sm90_copy.h"
#include "attention/sm90_forward.h"
#include "attention/sm90_tuning.h"
#include "device/cuda_check.h"
#include "device/tensor_map.h"
#include "registry/attention_kernel.h"

namespace triage::attention::sm90 {

/// Sorts packed sequences by their keys and counts their tiles; sets the tile counter to zero. Defined in sm90_plan.cu.
void plan_varlen(const TileOrder& order, int block_m, cudaStream_t stream);

/// What the dense and the block-sparse kernel have in common: parameters (but the tiles' order) and tensor maps.
template <typename C>
void fill_forward(const AttentionCall& call, ForwardParams& p, ForwardMaps& maps) {
  const AttentionProblem& problem = call.problem;
  const bool bfloat16 = problem.dtype == DType::bfloat16;
  const bool varlen = call.cu_seqlens_q != nullptr, packed_k = call.cu_seqlens_k != nullptr;
  static_cast<ResultParams&>(p) = result_params(call);
  TileOrder& order = p.order;
  static_cast<Sequences&>(order) = sequences_of(call);
  order.m_tiles = (order.seqlen_q + C::kBlockM - 1) / C::kBlockM;
  order.tiles = order.batch * order.heads * order.m_tiles;
  order.heaviest_first = heaviest_last(problem);
  order.counter = static_cast<std::int32_t*>(call.workspace.data);

  const bool whole_panels = problem.head_dim == 64 * C::kPanels && problem.head_dim_v == 64 * C::kPanelsV;
  p.q_sliced = whole_panels && !varlen;
  p.kv_sliced = whole_panels && !packed_k && call.seqused_k == nullptr;
  p.head_dim = problem.head_dim;

  const std::int64_t q_batch = varlen ? 1 : problem.batch, q_rows = varlen ? problem.total_q : problem.seqlen_q;
  const std::int64_t k_batch = packed_k ? 1 : problem.batch, k_rows = packed_k ? problem.total_k : problem.seqlen_k;
  maps.q = attention_map(call.q, bfloat16, q_batch, q_rows, problem.heads, problem.head_dim, 64, p.q_sliced);
  maps.k =
      attention_map(call.k, bfloat16, k_batch, k_rows, problem.kv_heads, problem.head_dim, C::kBlockN, p.kv_sliced);
  maps.v =
      attention_map(call.v, bfloat16, k_batch, k_rows, problem.kv_heads, problem.head_dim_v, C::kBlockN, p.kv_sliced);
  maps.out = attention_map(call.o, bfloat16, q_batch, q_rows, problem.heads, problem.head_dim_v, 64, p.q_sliced);
  maps.zeros = map_of_zeros(call.q.data, bfloat16);
}

/// One persistent CTA a multiprocessor.
template <typename C, typename Storage, typename Params>
void launch_persistent(void (*kernel)(ForwardMaps, Params), const AttentionCall& call, const ForwardMaps& maps,
                       const Params& p) {
  static_assert(sizeof(Storage) <= C::kSharedLimit, "the configuration must fit the shared memory of a CTA");
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Storage)),
             "cudaFuncSetAttribute of sm90 attention");
  const int ctas = std::min(p.order.tiles, call.device->multiprocessors);
  kernel<<<ctas, C::kThreads, sizeof(Storage), static_cast<cudaStream_t>(call.stream)>>>(maps, p);
  cuda_check(cudaGetLastError(), "launch of sm90 attention");
}

/// Heads whose keys and values are at work at once.
inline int forward_heads_at_once(const AttentionCall& call, std::int64_t heads) {
  return heads_at_once(kL2Share * static_cast<double>(call.device->l2_bytes), call.device->multiprocessors / 4,
                       call.problem, heads);
}

template <typename C>
void launch_forward(const AttentionCall& call) {
  const AttentionProblem& problem = call.problem;
  const auto stream = static_cast<cudaStream_t>(call.stream);
  ForwardParams p{};
  ForwardMaps maps;
  fill_forward<C>(call, p, maps);
  TileOrder& order = p.order;
  const bool varlen = call.cu_seqlens_q != nullptr;
  order.heads_at_once = forward_heads_at_once(call, varlen ? problem.heads : problem.batch * problem.heads);
  if (varlen) {
    std::int32_t* const words = order.counter + kCounterWords;
    order.plan = {words, words + order.batch};
    plan_varlen(order, C::kBlockM, stream);
  } else {
    cuda_check(cudaMemsetAsync(order.counter, 0, sizeof(std::int32_t), stream), "cudaMemsetAsync of the tile counter");
  }
  launch_persistent<C, ForwardStorage<C>>(forward_kernel<C>, call, maps, p);
}

}  // namespace triage::attention::sm90
