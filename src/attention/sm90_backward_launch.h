// From a validated backward call to tensor maps, parameters and the launches. Included by the files that hold the
// kernels' code.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <utility>

#include "attention/result_params.h"
#include "attention/sm90_backward_finish.h"
#include "attention/sm90_backward_keys.h"
#include "attention/sm90_backward_queries.h"
#include "attention/sm90_backward_sums.h"
#include "attention/sm90_backward_tuning.h"
#include "device/cuda_check.h"
#include "device/tile_order.h"

namespace triage::attention::sm90 {

void plan_varlen(const TileOrder& order, int block_m, cudaStream_t stream);  // sm90_plan.cu

/// What both passes need of a call.
struct BackwardLaunch {
  const AttentionBackwardCall& call;
  const AttentionProblem& problem;
  BackwardWorkspace workspace;
  BackwardRows rows;
  ResultParams result;
  bool q_sliced, kv_sliced;

  BackwardLaunch(const AttentionBackwardCall& call, int head_dim, bool one_pass = false)
      : call(call),
        problem(call.forward.problem),
        workspace(backward_workspace(problem, one_pass)),
        rows{kBackwardRowBlock, workspace.rows, place<float>(workspace.lse), place<float>(workspace.delta)},
        result(result_params(call.forward)) {
    const bool whole_panels = problem.head_dim == head_dim && problem.head_dim_v == head_dim;
    q_sliced = whole_panels && !problem.varlen_q;
    kv_sliced = whole_panels && !problem.varlen_k;
  }
  template <typename T>
  T* place(std::size_t offset) const {
    return reinterpret_cast<T*>(static_cast<char*>(call.forward.workspace.data) + offset);
  }
  QuerySums sums() const {
    return {place<float>(workspace.sums), place<std::uint32_t>(workspace.sum_states),
            place<SumRows>(workspace.sum_rows)};
  }
  SumsPlan sums_plan(int tile_keys, int cluster) const {
    return {sequences_of(call.forward), rows, sums(), call.d_q, static_cast<int>(problem.head_dim), tile_keys, cluster};
  }
  cudaStream_t stream() const { return static_cast<cudaStream_t>(call.forward.stream); }
  int multiprocessors() const { return call.forward.device->multiprocessors; }

  /// Of Q or dO, boxes of `rows` rows.
  CUtensorMap query_map(const AttentionTensor& t, int head_dim, int rows) const {
    return attention_map(t, problem.dtype == DType::bfloat16, problem.varlen_q ? 1 : problem.batch,
                         problem.varlen_q ? problem.total_q : problem.seqlen_q, problem.heads, head_dim, rows,
                         q_sliced);
  }
  /// Of K or V.
  CUtensorMap key_map(const AttentionTensor& t, int head_dim, int rows, bool sliced) const {
    return attention_map(t, problem.dtype == DType::bfloat16, problem.varlen_k ? 1 : problem.batch,
                         problem.varlen_k ? problem.total_k : problem.seqlen_k, problem.kv_heads, head_dim, rows,
                         sliced);
  }
  /// The order of a pass's tiles, `rows_per_tile` rows of `bits` each, of `units` heads a sequence (of Q, or of K and
  /// V).
  const std::int32_t* order_tiles(const BlockBits& bits, int rows_per_tile, int tiles_per_unit, int units,
                                  int units_at_once, std::size_t place_of_order, std::int32_t* counter) const {
    const AttentionMask& mask = call.forward.mask;
    TileOrderPlan plan;
    plan.counts = bits.counts;
    plan.rows = bits.rows;
    plan.batch_masks = mask.batch_masks;
    plan.heads_per_mask = mask.heads_per_mask;
    plan.heads = static_cast<int>(problem.heads);
    plan.heads_per_unit = static_cast<int>(problem.heads) / units;
    plan.units = static_cast<int>(problem.batch) * units;
    plan.rows_per_tile = rows_per_tile;
    plan.tiles_per_unit = tiles_per_unit;
    plan.units_at_once = std::min(units_at_once, plan.units);
    plan.order = place<std::int32_t>(place_of_order);
    plan.counter = counter;
    order_tiles_cuda(plan, stream());
    return plan.order;
  }
  /// What both passes' parameters and maps have in common.
  template <typename Params, typename Maps>
  void fill(Params& p, Maps& maps, int query_rows, int key_rows) const {
    p.rows = rows;
    p.q_sliced = q_sliced;
    p.kv_sliced = kv_sliced;
    p.head_dim = problem.head_dim;
    p.head_dim_v = problem.head_dim_v;
    p.scale_log2 = result.scale_log2;
    p.scale = call.forward.softmax_scale;
    p.softcap = result.softcap;
    maps.q = query_map(call.forward.q, problem.head_dim, query_rows);
    maps.d_o = query_map(call.d_o, problem.head_dim_v, query_rows);
    maps.k = key_map(call.forward.k, problem.head_dim, key_rows, kv_sliced);
    maps.v = key_map(call.forward.v, problem.head_dim_v, key_rows, kv_sliced);
    maps.zeros = map_of_zeros(call.forward.q.data, problem.dtype == DType::bfloat16);
  }
};

/// d_k and d_v; with kOnePass also the sums of d_q.
template <typename C>
void launch_key_gradient(const BackwardLaunch& l) {
  static_assert(sizeof(KeyGradientStorage<C>) <= C::kSharedLimit, "the configuration must fit the shared memory");
  KeyGradientParams p{};
  KeyGradientMaps maps;
  l.fill(p, maps, C::kBlockM, C::kBlockN);
  p.d_k = l.call.d_k;
  p.d_v = l.call.d_v;
  KeyTileOrder& order = p.order;
  static_cast<Sequences&>(order) = sequences_of(l.call.forward);
  order.kv_heads = static_cast<int>(l.problem.kv_heads);
  order.n_tiles = (order.seqlen_k + C::kTileKeys - 1) / C::kTileKeys;
  order.tiles = order.batch * order.kv_heads * order.n_tiles;
  const int heads = l.problem.varlen_k ? order.kv_heads : order.batch * order.kv_heads;
  order.heads_at_once = std::min(kKeyHeadsAtOnce, heads);
  order.heaviest_first = heaviest_last(l.problem);
  if constexpr (C::kOnePass) {
    const double sums = static_cast<double>(l.problem.group()) * order.seqlen_q * C::kHeadDim * sizeof(float);
    const double fit = kSumsL2Share * static_cast<double>(l.call.forward.device->l2_bytes) / std::max(sums, 1.0);
    order.heads_at_once = static_cast<int>(std::clamp(fit, 1.0, static_cast<double>(heads)));
    p.one_pass = {l.sums(), l.call.d_q, l.call.forward.softmax_scale, static_cast<int>(l.problem.head_dim)};
    if (C::kCluster > 1) maps.k_panel = l.key_map(l.call.forward.k, l.problem.head_dim, C::kBlockN, false);
  }
  order.counter = l.place<std::int32_t>(l.workspace.key_counter);
  if constexpr (C::kSparse) {
    p.mask = l.call.forward.mask;
    p.tile_order = l.order_tiles(p.mask.by_key, C::kGroups, order.n_tiles, order.kv_heads, order.heads_at_once,
                                 l.workspace.key_order, order.counter);
  } else if (l.problem.varlen_k) {
    auto* const words = l.place<std::int32_t>(l.workspace.key_plan);
    order.plan = {words, words + order.batch};
    // The plan counts tiles of queries and sorts by keys; here it is the other way round.
    TileOrder swapped{};
    static_cast<Sequences&>(swapped) = order;
    std::swap(swapped.cu_seqlens_q, swapped.cu_seqlens_k);
    std::swap(swapped.seqlen_q, swapped.seqlen_k);
    swapped.plan = order.plan;
    swapped.counter = order.counter;
    plan_varlen(swapped, C::kTileKeys, l.stream());
  }
  const auto kernel = key_gradient_kernel<C>;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(KeyGradientStorage<C>)),
             "cudaFuncSetAttribute of sm90 attention backward");
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {C::kCluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(C::kCluster * std::min(order.tiles, l.multiprocessors() / C::kCluster)));
  config.blockDim = dim3(C::kThreads);
  config.dynamicSmemBytes = sizeof(KeyGradientStorage<C>);
  config.stream = l.stream();
  config.attrs = &cluster;
  config.numAttrs = C::kCluster > 1 ? 1 : 0;
  cuda_check(cudaLaunchKernelEx(&config, kernel, maps, p), "launch of sm90 attention backward (d_k, d_v)");
}

/// d_q out of its sums.
template <typename C>
void launch_finish(const BackwardLaunch& l) {
  const FinishParams p{sequences_of(l.call.forward),     l.rows,
                       l.place<float>(l.workspace.sums), l.call.d_q,
                       l.call.forward.softmax_scale,     static_cast<int>(l.problem.head_dim)};
  const dim3 grid(static_cast<unsigned>(l.problem.heads * (l.rows.rows / 64)), (l.problem.head_dim + 63) / 64);
  finish_query_gradient<typename C::Element, C::kPanels><<<grid, kFinishThreads, 0, l.stream()>>>(p);
  cuda_check(cudaGetLastError(), "launch of sm90 attention backward (d_q)");
}

/// d_q.
template <typename C>
void launch_query_gradient(const BackwardLaunch& l) {
  static_assert(sizeof(QueryGradientStorage<C>) <= C::kSharedLimit, "the configuration must fit the shared memory");
  QueryGradientParams p{};
  QueryGradientMaps maps;
  l.fill(p, maps, 64, C::kBlockN);
  p.d_q = l.call.d_q;
  TileOrder& order = p.order;
  static_cast<Sequences&>(order) = sequences_of(l.call.forward);
  order.m_tiles = (order.seqlen_q + C::kBlockM - 1) / C::kBlockM;
  order.tiles = order.batch * order.heads * order.m_tiles;
  order.heaviest_first = heaviest_last(l.problem);
  order.heads_at_once =
      heads_at_once(kBackwardL2Share * static_cast<double>(l.call.forward.device->l2_bytes), l.multiprocessors() / 4,
                    l.problem, l.problem.varlen_q ? l.problem.heads : l.problem.batch * l.problem.heads);
  order.counter = l.place<std::int32_t>(l.workspace.query_counter);
  if constexpr (C::kSparse) {
    p.mask = l.call.forward.mask;
    p.tile_order = l.order_tiles(p.mask.by_query, C::kGroups, order.m_tiles, order.heads, order.heads_at_once,
                                 l.workspace.query_order, order.counter);
  } else if (l.problem.varlen_q) {
    auto* const words = l.place<std::int32_t>(l.workspace.query_plan);
    order.plan = {words, words + order.batch};
    plan_varlen(order, C::kBlockM, l.stream());
  }
  const auto kernel = query_gradient_kernel<C>;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(QueryGradientStorage<C>)),
             "cudaFuncSetAttribute of sm90 attention backward");
  const int ctas = std::min(order.tiles, l.multiprocessors());
  kernel<<<ctas, C::kThreads, sizeof(QueryGradientStorage<C>), l.stream()>>>(maps, p);
  cuda_check(cudaGetLastError(), "launch of sm90 attention backward (d_q)");
}

/// Calls launch<Element, kCapped>().
template <typename Launch>
void by_dtype_and_cap(const AttentionBackwardCall& call, const Launch& launch) {
  const bool capped = call.forward.problem.softcap > 0.0f;
  if (call.forward.problem.dtype == DType::float16) {
    capped ? launch.template operator()<__half, true>() : launch.template operator()<__half, false>();
  } else {
    capped ? launch.template operator()<__nv_bfloat16, true>() : launch.template operator()<__nv_bfloat16, false>();
  }
}

/// Statistics of the rows, then both passes.
template <typename KeyConfig, typename QueryConfig>
void launch_passes(const AttentionBackwardCall& call) {
  static_assert(KeyConfig::kBlockM <= kBackwardRowBlock && kBackwardRowBlock % KeyConfig::kBlockM == 0,
                "statistics are padded to whole blocks of queries");
  const BackwardLaunch l(call, KeyConfig::kHeadDim);
  PrepareBackward prepare;
  prepare.rows = l.rows;
  prepare.zeros = l.place<char>(l.workspace.key_counter);
  prepare.zero_bytes = l.workspace.counter_bytes;
  prepare_backward(call, prepare);
  if (call.d_k.data != nullptr || call.d_v.data != nullptr) launch_key_gradient<KeyConfig>(l);
  if (call.d_q.data != nullptr) launch_query_gradient<QueryConfig>(l);
}

/// Statistics of the rows, then one pass.
template <typename C>
void launch_one_pass(const AttentionBackwardCall& call) {
  const BackwardLaunch l(call, C::kHeadDim, true);
  PrepareBackward prepare;
  prepare.rows = l.rows;
  prepare.zeros = l.place<char>(l.workspace.key_counter);
  prepare.zero_bytes = l.workspace.counter_bytes + (C::kCounted ? 0 : l.workspace.sum_bytes);  // side by side
  prepare_backward(call, prepare);
  if constexpr (C::kCounted) plan_sums(l.sums_plan(C::kTileKeys, C::kCluster), l.stream());
  launch_key_gradient<C>(l);
  if constexpr (!C::kCounted) launch_finish<C>(l);
}

/// By dtype and softcap. @tparam kCluster CTAs of a cluster, kHalves times 64 keys a warpgroup.
template <int kHeadDim, int kCluster, int kHalves, bool kSparse>
void launch_one_pass_backward(const AttentionBackwardCall& call) {
  by_dtype_and_cap(call, [&]<typename Element, bool kCapped>() {
    launch_one_pass<KeyGradientConfig<Element, kHeadDim, 64, kCapped, kSparse, true, kCluster, kHalves>>(call);
  });
}

/// By dtype and softcap. @tparam kBlockM queries of a block of the pass over keys, kBlockN keys of a block of the pass
/// over queries. @tparam kSparse with a block-sparse mask.
template <int kHeadDim, int kBlockM, int kBlockN, int kStages, bool kSparse>
void launch_backward(const AttentionBackwardCall& call) {
  by_dtype_and_cap(call, [&]<typename Element, bool kCapped>() {
    launch_passes<KeyGradientConfig<Element, kHeadDim, kBlockM, kCapped, kSparse>,
                  QueryGradientConfig<Element, kHeadDim, kBlockN, kStages, kCapped, kSparse>>(call);
  });
}

}  // namespace triage::attention::sm90
