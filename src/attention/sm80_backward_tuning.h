// The sm80 attention backward's numbers, and why. Host code.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "attention/backward_rows.h"
#include "attention/sm80_tuning.h"
#include "registry/attention_kernel.h"

namespace triage::attention::sm80 {

// Shapes, by head_dim as padded:
// clang-format off
//
// | shape | head_dim | keys | queries | warps | stages | KB  | why                                                        |
// |-------|----------|------|---------|-------|--------|-----|------------------------------------------------------------|
// | any   | 64       | 128  | 64      | 4     | 2      | 81  | 32 keys a warp: a fragment of Q or dO serves two products  |
// | large | 128      | 128  | 64      | 8     | 2      | 145 | dK and dV of 128 keys are 128 registers of 256 threads     |
// | small | 128      | 64   | 32      | 4     | 2      | 69  | 8.6, 8.9 and 12.0 have 99 KB                               |
// | large | 256      | 64   | 32      | 8     | 2      | 133 | two warps share 16 keys and divide the columns             |
// | small | 256      | 64   | 16      | 8     | 2      | 98  | the same                                                   |
// | sparse | 64      | 64   | 64      | 4     | 2      | 57  | a row of the mask's blocks; else as `small`                |
//
// clang-format on
enum class BackwardShape { small, large, sparse };

struct BackwardPlan {
  int head_dim;  ///< as padded
  BackwardShape shape;
  int block_m, block_n;
  std::int64_t rows;         ///< padded rows of a head
  std::size_t row_bytes;     ///< of lse, and of delta
  std::size_t turns_bytes;   ///< of the counters
  std::size_t sums_bytes;    ///< of dQ's sums
  std::size_t bytes() const { return 2 * row_bytes + turns_bytes + sums_bytes; }
};

/// Heads of K and V whose blocks of keys are at work at the same time, so that CTAs share queries and dQ in L2.
constexpr std::int64_t kBackwardHeads = 16;

/// Where the workspace's parts lie: the padded rows' statistics, the turns, dQ's sums.
inline BackwardRows rows_in(void* workspace, const BackwardPlan& plan) {
  auto* const bytes = static_cast<std::uint8_t*>(workspace);
  return {plan.block_m, plan.rows, reinterpret_cast<float*>(bytes), reinterpret_cast<float*>(bytes + plan.row_bytes)};
}
inline std::uint8_t* turns_in(void* workspace, const BackwardPlan& plan) {
  return static_cast<std::uint8_t*>(workspace) + 2 * plan.row_bytes;
}

/// Who comes first where CTAs take turns at dQ. If queries do not look ahead, a block of keys is attended by the
/// queries from its own on. Last keys first: each CTA begins with rows to which nobody else has to add before, and none
/// waits; but the longest CTAs come last, which leaves multiprocessors idle at the end. Last queries first: the longest
/// CTAs come first, and follow each other down the same rows. H100, TFLOP/s, causal, head_dim 64 / 128 / 256:
/// | keys  | last keys first | last queries first | neither         |
/// |-------|-----------------|--------------------|-----------------|
/// | 1024  | 182 / 174 / 131 | 160 / 157 / 118    | 119 / 117 / 102 |
/// | 4096  | 237 / 225 / 128 | 219 / 223 / 152    | 188 / 200 / 146 |
/// | 16384 | 227 / 238 / 130 | 254 / 254 / 165    | 252 / 249 / 163 |
struct TurnOrder {
  bool last_keys_first, last_queries_first;
};

constexpr int kFewKeyTiles = 32;

inline TurnOrder turn_order(const AttentionProblem& problem, bool ordered, int key_tiles) {
  if (!ordered || problem.window_right < 0 || problem.block_sparse) return {false, false};
  const bool even = problem.window_left >= 0;  // all CTAs have about the same to do
  const bool last_keys = even || key_tiles <= kFewKeyTiles;
  return {last_keys, !last_keys};
}

inline BackwardPlan plan_backward(const AttentionProblem& problem, const Device& device) {
  const auto round_up = [](std::int64_t bytes) { return static_cast<std::size_t>((bytes + 255) / 256 * 256); };
  BackwardPlan plan{};
  plan.head_dim = padded_head_dim(std::max(problem.head_dim, problem.head_dim_v));
  const bool small = problem.block_sparse || device.shared_memory_per_block < 160 * 1024;
  plan.shape = problem.block_sparse ? BackwardShape::sparse : small ? BackwardShape::small : BackwardShape::large;
  plan.block_m = plan.head_dim == 64 ? 64 : (small ? 32 : 64) * 128 / plan.head_dim;
  plan.block_n = problem.block_sparse || plan.head_dim == 256 || (plan.head_dim == 128 && small) ? 64 : 128;
  plan.rows = padded_rows(problem, plan.block_m);
  plan.row_bytes = round_up(problem.heads * plan.rows * 4);
  plan.turns_bytes = round_up(problem.heads * (plan.rows / plan.block_m) * 4);
  plan.sums_bytes = round_up(problem.heads * plan.rows * plan.head_dim * 4);
  return plan;
}

}  // namespace triage::attention::sm80
