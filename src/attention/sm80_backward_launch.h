// From a validated call to the launches of one configuration. Included by the files that hold the kernels' code.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "attention/result_params.h"
#include "attention/sm80_backward.h"
#include "attention/sm80_backward_rows.h"
#include "device/cuda_check.h"

namespace triage::attention::sm80 {

/// The table of sm80_backward_tuning.h.
template <BackwardShape kShape, int kHeadDim, typename Element>
struct BackwardConfigOf;
template <typename Element>
struct BackwardConfigOf<BackwardShape::small, 64, Element> {
  using Type = BackwardConfig<Element, 64, 4, 1, 2, 64, 32, 2, 2>;
};
template <typename Element>
struct BackwardConfigOf<BackwardShape::large, 128, Element> {
  using Type = BackwardConfig<Element, 128, 8, 1, 1, 64, 32, 2, 1>;
};
template <typename Element>
struct BackwardConfigOf<BackwardShape::small, 128, Element> {
  using Type = BackwardConfig<Element, 128, 4, 1, 1, 32, 32, 2, 1>;
};
template <typename Element>
struct BackwardConfigOf<BackwardShape::large, 256, Element> {
  using Type = BackwardConfig<Element, 256, 4, 2, 1, 32, 32, 2, 1>;
};
template <typename Element>
struct BackwardConfigOf<BackwardShape::small, 256, Element> {
  using Type = BackwardConfig<Element, 256, 4, 2, 1, 16, 16, 2, 1>;
};
template <typename Element>
struct BackwardConfigOf<BackwardShape::sparse, 64, Element> {
  using Type = BackwardConfig<Element, 64, 4, 1, 1, 64, 32, 2, 2, true>;
};
template <typename Element>
struct BackwardConfigOf<BackwardShape::sparse, 128, Element> {
  using Type = BackwardConfig<Element, 128, 4, 1, 1, 32, 32, 2, 1, true>;
};
template <typename Element>
struct BackwardConfigOf<BackwardShape::sparse, 256, Element> {
  using Type = BackwardConfig<Element, 256, 4, 2, 1, 16, 16, 2, 1, true>;
};

inline BackwardParams backward_params(const AttentionBackwardCall& call, const BackwardPlan& plan) {
  const AttentionCall& forward = call.forward;
  const AttentionProblem& problem = forward.problem;
  const ResultParams logits = result_params(forward);
  BackwardParams p{};
  p.sequences = sequences_of(forward);
  p.q = forward.q;
  p.k = forward.k;
  p.v = forward.v;
  p.d_o = call.d_o;
  p.d_q = call.d_q;
  p.d_k = call.d_k;
  p.d_v = call.d_v;
  p.mask = forward.mask;
  p.rows = rows_in(forward.workspace.data, plan);
  p.softmax_scale = forward.softmax_scale;
  p.scale_log2 = logits.scale_log2;
  p.softcap = logits.softcap;
  p.head_dim = problem.head_dim;
  p.head_dim_v = problem.head_dim_v;
  p.aligned16 = problem.aligned16;
  p.ordered = call.deterministic;
  p.key_tiles = static_cast<int>((problem.seqlen_k + plan.block_n - 1) / plan.block_n);
  p.query_tiles = static_cast<int>((problem.seqlen_q + plan.block_m - 1) / plan.block_m);
  const TurnOrder order = turn_order(problem, call.deterministic, p.key_tiles);
  p.last_keys_first = order.last_keys_first;
  p.last_queries_first = order.last_queries_first;
  p.heads_at_once = static_cast<int>(std::min(kBackwardHeads, problem.batch * problem.kv_heads));
  std::uint8_t* const turns = turns_in(forward.workspace.data, plan);
  p.turns = reinterpret_cast<int*>(turns);
  p.d_q_sums = reinterpret_cast<float*>(turns + plan.turns_bytes);
  return p;
}

template <BackwardShape kShape, int kHeadDim, DType kDType>
void launch_backward_shape(const AttentionBackwardCall& call, const BackwardPlan& plan) {
  using Element = std::conditional_t<kDType == DType::float16, __half, __nv_bfloat16>;
  using C = typename BackwardConfigOf<kShape, kHeadDim, Element>::Type;
  static_assert(kShape == BackwardShape::large || C::kSharedBytes <= 99 * 1024, "8.6, 8.9 and 12.0 have 99 KB");
  static_assert(C::kSharedBytes <= 160 * 1024, "8.0 has 163 KB");
  const BackwardParams params = backward_params(call, plan);
  const AttentionProblem& problem = call.forward.problem;
  const auto stream = static_cast<cudaStream_t>(call.forward.stream);
  const std::int64_t key_ctas = problem.batch * problem.kv_heads * params.key_tiles;
  if (key_ctas > 0) {
    const auto kernel = backward_kernel<C>;
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, C::kSharedBytes),
               "cudaFuncSetAttribute of sm80 attention backward");
    kernel<<<static_cast<unsigned>(key_ctas), C::kThreads, C::kSharedBytes, stream>>>(params);
    cuda_check(cudaGetLastError(), "launch of sm80 attention backward");
  }
  const std::int64_t query_ctas = problem.batch * problem.heads * params.query_tiles;
  if (call.d_q.data != nullptr && query_ctas > 0) {
    finish_kernel<C><<<static_cast<unsigned>(query_ctas), C::kThreads, 0, stream>>>(params);
    cuda_check(cudaGetLastError(), "launch of sm80 attention backward's last kernel");
  }
}

}  // namespace triage::attention::sm80
