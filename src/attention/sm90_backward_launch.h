// From a validated backward call to tensor maps, parameters and the launch. Included by the files that hold the
// kernels' code.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <utility>

#include "attention/result_params.h"
#include "attention/sm90_backward.h"
#include "attention/sm90_backward_tuning.h"
#include "device/cuda_check.h"

namespace triage::attention::sm90 {

void plan_varlen(const TileOrder& order, int block_m, cudaStream_t stream);  // sm90_plan.cu

/// The plan counts tiles of queries and sorts by keys; here it is the other way round.
inline TileOrder plan_of_keys(const KeyTileOrder& o) {
  TileOrder swapped{};
  static_cast<Sequences&>(swapped) = o;
  std::swap(swapped.cu_seqlens_q, swapped.cu_seqlens_k);
  std::swap(swapped.seqlen_q, swapped.seqlen_k);
  swapped.plan = o.plan;
  swapped.counter = o.counter;
  return swapped;
}

template <typename C>
void launch_backward(const AttentionBackwardCall& call) {
  static_assert(sizeof(BackwardStorage<C>) <= C::kSharedLimit, "the configuration must fit the shared memory of a CTA");
  const AttentionCall& forward = call.forward;
  const AttentionProblem& problem = forward.problem;
  const auto stream = static_cast<cudaStream_t>(forward.stream);
  const bool bfloat16 = problem.dtype == DType::bfloat16;
  const BackwardWorkspace w = backward_workspace(problem, C::kBlockM, C::kHeadDim);
  auto* const bytes = static_cast<char*>(forward.workspace.data);

  BackwardParams p{};
  KeyTileOrder& order = p.order;
  static_cast<Sequences&>(order) = sequences_of(forward);
  order.kv_heads = static_cast<int>(problem.kv_heads);
  order.n_tiles = (order.seqlen_k + C::kBlockN - 1) / C::kBlockN;
  order.tiles = order.batch * order.kv_heads * order.n_tiles;
  order.heads_at_once = std::min(kHeadsAtOnce, problem.varlen_k ? order.kv_heads : order.batch * order.kv_heads);
  order.counter = reinterpret_cast<std::int32_t*>(bytes + w.counter);
  p.flags = reinterpret_cast<std::int32_t*>(bytes + w.flags);
  p.sums = reinterpret_cast<float*>(bytes + w.sums);
  p.rows = {C::kBlockM, w.rows, reinterpret_cast<float*>(bytes + w.lse), reinterpret_cast<float*>(bytes + w.delta)};
  p.head_dim = problem.head_dim;
  p.head_dim_v = problem.head_dim_v;
  const ResultParams result = result_params(forward);
  p.scale_log2 = result.scale_log2;
  p.softcap = result.softcap;
  p.scale = forward.softmax_scale;
  p.d_q = call.d_q;
  p.d_k = call.d_k;
  p.d_v = call.d_v;

  PrepareBackward prepare;
  prepare.rows = p.rows;
  prepare.zeros = bytes + w.counter;
  prepare.zero_bytes = w.zero_bytes;
  prepare.clear_unattended = true;
  prepare_backward(call, prepare);
  if (problem.varlen_k) {
    auto* const words = reinterpret_cast<std::int32_t*>(bytes + w.plan);
    order.plan = {words, words + order.batch};
    plan_varlen(plan_of_keys(order), C::kBlockN, stream);
  }
  if (call.d_q.data == nullptr && call.d_k.data == nullptr && call.d_v.data == nullptr) return;

  const bool whole_panels = problem.head_dim == C::kHeadDim && problem.head_dim_v == C::kHeadDim;
  p.q_sliced = whole_panels && !problem.varlen_q;
  p.kv_sliced = whole_panels && !problem.varlen_k;
  const std::int64_t q_batch = problem.varlen_q ? 1 : problem.batch,
                     q_rows = problem.varlen_q ? problem.total_q : problem.seqlen_q,
                     k_batch = problem.varlen_k ? 1 : problem.batch,
                     k_rows = problem.varlen_k ? problem.total_k : problem.seqlen_k;
  const auto map_q = [&](const AttentionTensor& t, int head_dim) {
    return attention_map(t, bfloat16, q_batch, q_rows, problem.heads, head_dim, C::kBlockM, p.q_sliced);
  };
  const auto map_k = [&](const AttentionTensor& t, int head_dim) {
    return attention_map(t, bfloat16, k_batch, k_rows, problem.kv_heads, head_dim, C::kBlockN, p.kv_sliced);
  };
  BackwardMaps maps;
  maps.q = map_q(forward.q, problem.head_dim);
  maps.d_o = map_q(call.d_o, problem.head_dim_v);
  maps.k = map_k(forward.k, problem.head_dim);
  maps.v = map_k(forward.v, problem.head_dim_v);
  maps.zeros = map_of_zeros(forward.q.data, bfloat16);

  const auto kernel = backward_kernel<C>;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(BackwardStorage<C>)),
             "cudaFuncSetAttribute of sm90 attention backward");
  const int tiles = problem.varlen_k ? forward.device->multiprocessors : order.tiles;
  kernel<<<std::min(tiles, forward.device->multiprocessors), C::kThreads, sizeof(BackwardStorage<C>), stream>>>(maps, p);
  cuda_check(cudaGetLastError(), "launch of sm90 attention backward");
}

template <int kHeadDim, int kBlockM>
void launch_backward(const AttentionBackwardCall& call) {
  const bool capped = call.forward.problem.softcap > 0.0f;
  if (call.forward.problem.dtype == DType::float16) {
    capped ? launch_backward<BackwardConfig<__half, kHeadDim, kBlockM, true>>(call)
           : launch_backward<BackwardConfig<__half, kHeadDim, kBlockM, false>>(call);
  } else {
    capped ? launch_backward<BackwardConfig<__nv_bfloat16, kHeadDim, kBlockM, true>>(call)
           : launch_backward<BackwardConfig<__nv_bfloat16, kHeadDim, kBlockM, false>>(call);
  }
}

}  // namespace triage::attention::sm90
