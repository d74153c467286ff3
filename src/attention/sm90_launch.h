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

template <typename C>
void launch_forward(const AttentionCall& call) {
  static_assert(sizeof(ForwardStorage<C>) <= C::kSharedLimit, "the configuration must fit the shared memory of a CTA");
  const AttentionProblem& problem = call.problem;
  const auto stream = static_cast<cudaStream_t>(call.stream);
  const bool bfloat16 = problem.dtype == DType::bfloat16;
  const bool varlen = call.cu_seqlens_q != nullptr;

  ForwardParams p{};
  static_cast<ResultParams&>(p) = result_params(call);
  TileOrder& order = p.order;
  static_cast<Sequences&>(order) = sequences_of(call);
  order.m_tiles = (order.seqlen_q + C::kBlockM - 1) / C::kBlockM;
  order.tiles = order.batch * order.heads * order.m_tiles;
  order.heaviest_first = heaviest_last(problem);
  order.heads_at_once =
      heads_at_once(kL2Share * static_cast<double>(call.device->l2_bytes), call.device->multiprocessors / 4, problem,
                    varlen ? problem.heads : problem.batch * problem.heads);
  auto* const words = static_cast<std::int32_t*>(call.workspace.data);
  order.counter = words;
  if (varlen) {
    order.plan = {words + kCounterWords, words + kCounterWords + order.batch};
    plan_varlen(order, C::kBlockM, stream);
  } else {
    cuda_check(cudaMemsetAsync(words, 0, sizeof(std::int32_t), stream), "cudaMemsetAsync of the tile counter");
  }

  const bool whole_panels = problem.head_dim == 64 * C::kPanels && problem.head_dim_v == 64 * C::kPanelsV;
  p.q_sliced = whole_panels && !varlen;
  p.kv_sliced = whole_panels && call.cu_seqlens_k == nullptr && call.seqused_k == nullptr;

  const std::int64_t q_batch = varlen ? 1 : problem.batch, q_rows = varlen ? problem.total_q : problem.seqlen_q;
  const bool packed_k = call.cu_seqlens_k != nullptr;
  const std::int64_t k_batch = packed_k ? 1 : problem.batch, k_rows = packed_k ? problem.total_k : problem.seqlen_k;
  p.head_dim = problem.head_dim;
  ForwardMaps maps;
  maps.q = attention_map(call.q, bfloat16, q_batch, q_rows, problem.heads, problem.head_dim, 64, p.q_sliced);
  maps.k =
      attention_map(call.k, bfloat16, k_batch, k_rows, problem.kv_heads, problem.head_dim, C::kBlockN, p.kv_sliced);
  maps.v =
      attention_map(call.v, bfloat16, k_batch, k_rows, problem.kv_heads, problem.head_dim_v, C::kBlockN, p.kv_sliced);
  maps.out = attention_map(call.o, bfloat16, q_batch, q_rows, problem.heads, problem.head_dim_v, 64, p.q_sliced);
  maps.zeros = map_of_zeros(call.q.data, bfloat16);

  const auto kernel = forward_kernel<C>;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(ForwardStorage<C>)),
             "cudaFuncSetAttribute of sm90 attention");
  const int ctas = std::min(order.tiles, call.device->multiprocessors);
  kernel<<<ctas, C::kThreads, sizeof(ForwardStorage<C>), stream>>>(maps, p);
  cuda_check(cudaGetLastError(), "launch of sm90 attention");
}

}  // namespace triage::attention::sm90
