// From a validated block-sparse call to the launch. Included by the files that hold the kernels' code.
#pragma once

#include "attention/sm90_launch.h"
#include "attention/sm90_sparse_forward.h"
#include "device/tile_order.h"

namespace triage::attention::sm90 {

template <typename C>
void launch_sparse_forward(const AttentionCall& call) {
  static_assert(C::kBlockM >= kSparseTile, "the workspace has room for the order of tiles of that size");
  const AttentionProblem& problem = call.problem;
  SparseForwardParams p{};
  ForwardMaps maps;
  fill_forward<C>(call, p, maps);
  p.mask = call.mask;
  p.tile_order = p.order.counter + kCounterWords;
  TileOrderPlan plan;
  plan.counts = call.mask.by_query.counts;
  plan.rows = call.mask.by_query.rows;
  plan.batch_masks = call.mask.batch_masks;
  plan.heads_per_mask = call.mask.heads_per_mask;
  plan.heads = p.order.heads;
  plan.units = p.order.batch * p.order.heads;
  plan.rows_per_tile = C::kGroups;
  plan.tiles_per_unit = p.order.m_tiles;
  plan.units_at_once = forward_heads_at_once(call, problem.batch * problem.heads);
  plan.order = p.order.counter + kCounterWords;
  plan.counter = p.order.counter;
  order_tiles_cuda(plan, call.stream);
  launch_persistent<C, ForwardStorage<C>>(sparse_forward_kernel<C>, call, maps, p);
}

}  // namespace triage::attention::sm90
