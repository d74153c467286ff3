// The sm80 attention kernels' numbers, and why. Host code.
#pragma once

#include <algorithm>
#include <cstdint>

#include "registry/attention_kernel.h"

namespace triage::attention::sm80 {

// Shapes, for each head_dim as padded; 99 KB of shared memory hold each, and H100 and A100 hold two CTAs or more:
// clang-format off
//
// | shape        | head_dim | rows | warps, tiles of 16 | keys | KB     | why                                                 |
// |--------------|----------|------|--------------------|------|--------|-----------------------------------------------------|
// | wide         | 64       | 128  | 4 x 2              | 128  | 80     | a fragment of K or V serves 32 rows                 |
// | wide         | 128      | 128  | 4 x 2              | 64   | 96     | the same                                            |
// | medium       | 64, 128  | 64   | 4 x 1              | 64   | 40, 80 | few queries: half the idle rows                     |
// | wide, medium | 256      | 64   | 4 x 1              | 32   | 96     | O of 32 rows a warp would be 256 registers          |
// | narrow       | 64       | 16   | 4 share rows       | 128  | 66     | decoding: warps divide the keys of a block          |
// | narrow       | 128      | 16   | 4 share rows       | 64   | 68     | the same                                            |
// | narrow       | 256      | 16   | 2 share rows       | 32   | 72     | the same                                            |
// | sparse       | 64, 128  | 64   | 4 x 1              | 64   | 40, 80 | a row of the mask's blocks                          |
// | sparse       | 256      | 64   | 4 x 1              | 32   | 96     | the same                                            |
// | sparse_wide  | 64, 128  | 128  | 4 x 2              | 64   | 64, 96 | masks in blocks of 128 rows                         |
//
// clang-format on
enum class Shape { narrow, medium, wide, sparse, sparse_wide };

constexpr int padded_head_dim(int larger) { return larger <= 64 ? 64 : larger <= 128 ? 128 : 256; }

/// What a launch looks like; the same for workspace and launch.
struct Plan {
  Shape shape;
  int pack;  ///< query heads of a head of K and V packed into rows
  int rows;  ///< of a tile
  int splits;
};

/// Queries up to which heads are packed: then K and V are read once for the group. Longer sequences find them in L2
/// anyway.
constexpr std::int64_t kPackedQueries = 128;

/// Of L2, for the keys and values of the heads at work.
constexpr double kL2Share = 0.56;

inline Plan plan_forward(const AttentionProblem& problem, const Device& device) {
  Plan plan{};
  const int padded = padded_head_dim(std::max(problem.head_dim, problem.head_dim_v));
  if (problem.block_sparse) {
    const bool wide = problem.pattern_block_q == 128 && padded <= 128;
    return {wide ? Shape::sparse_wide : Shape::sparse, 1, wide ? 128 : 64, 1};
  }
  plan.pack = problem.group() > 1 && problem.seqlen_q <= kPackedQueries ? static_cast<int>(problem.group()) : 1;
  const std::int64_t rows = problem.seqlen_q * plan.pack;
  plan.shape = rows <= 16 ? Shape::narrow : rows <= 64 || padded == 256 ? Shape::medium : Shape::wide;
  plan.rows = plan.shape == Shape::narrow ? 16 : plan.shape == Shape::medium ? 64 : 128;
  plan.splits = problem.num_splits;
  if (plan.splits > 0) return plan;
  // Splits that fill the GPU: time is rounds x blocks of a split, and what a CTA's start and the combination cost, some
  // 6 blocks.
  const int block = plan.shape != Shape::medium && padded == 64 ? 128 : padded == 256 ? 32 : 64;
  const std::int64_t ctas_at_once = device.multiprocessors * (device.shared_memory_per_block >= 160 * 1024 ? 2 : 1);
  const std::int64_t tiles = problem.batch * (problem.heads / plan.pack) * ((rows + plan.rows - 1) / plan.rows);
  const std::int64_t blocks = (problem.seqlen_k + block - 1) / block;
  plan.splits = 1;
  if (tiles * 5 >= ctas_at_once * 4) return plan;
  double best = 1e300;
  for (int splits = 1; splits <= std::min<std::int64_t>(kMaxSplits, blocks); splits++) {
    const std::int64_t rounds = (tiles * splits + ctas_at_once - 1) / ctas_at_once;
    const double cost = static_cast<double>(rounds) * ((blocks + splits - 1) / splits + 6) + 0.1 * splits;
    if (cost < best * 0.97) {
      best = cost;
      plan.splits = splits;
    }
  }
  return plan;
}

/// CTAs of a launch without splits.
inline std::size_t tiles_of(const AttentionProblem& problem, const Plan& plan) {
  return static_cast<std::size_t>(problem.batch * (problem.heads / plan.pack) *
                                  ((problem.seqlen_q * plan.pack + plan.rows - 1) / plan.rows));
}
/// Words of a block-sparse call's workspace before the order of its tiles (a counter that nobody reads here).
constexpr std::size_t kCounterWords = 64;

}  // namespace triage::attention::sm80
