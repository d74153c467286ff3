// The sm90 attention kernel's numbers, and why. Host code.
#pragma once

#include <cstddef>

#include "registry/attention_kernel.h"

namespace triage::attention::sm90 {

/// Of L2, for the keys and values of the heads that are at work at once (32 of 50 MB on an H100). Besides, no more
/// heads than a quarter of the CTAs: of short sequences, all heavy tiles would be at work together and then all light
/// ones.
constexpr double kL2Share = 0.65;

/// What the tiles below need at most.
constexpr std::size_t kSharedMemory = 227 * 1024;

/// Whether tiles of queries leave more than half of the GPU idle while keys are plenty.
inline bool prefers_splits(const AttentionProblem& problem, const Device& device) {
  if (problem.num_splits == 1) return false;
  const std::int64_t tiles = problem.batch * problem.heads * ((problem.seqlen_q + 127) / 128);
  const bool packs =
      problem.seqlen_q <= 64 && (problem.group() > 1 || problem.seqlen_q <= 16);  // small tiles of the sm80 kernel
  return problem.seqlen_k >= 512 && (packs || 2 * tiles <= device.multiprocessors);
}

/// Words of the workspace before the plan of packed sequences: the tile counter, alone in its cache lines.
constexpr std::size_t kCounterWords = 64;

/// Queries of the smallest tile of a block-sparse kernel.
constexpr int kSparseTile = 128;

inline std::size_t forward_workspace_bytes(const AttentionProblem& problem) {
  const auto batch = static_cast<std::size_t>(problem.batch);
  std::size_t words = kCounterWords + (problem.varlen_q ? 2 * batch + 1 : 0);
  if (problem.block_sparse) {  // the order of its tiles
    words = kCounterWords + batch * static_cast<std::size_t>(problem.heads) *
                                ((static_cast<std::size_t>(problem.seqlen_q) + kSparseTile - 1) / kSparseTile);
  }
  return words * sizeof(std::int32_t);
}

// Tiles, as warpgroups of 64 queries x keys per block; S + P + O are registers of a thread:
// clang-format off
//
// | head_dim | tile    | stages | registers     | why                                                                   |
// |----------|---------|--------|---------------|-----------------------------------------------------------------------|
// | 64       | 4 x 64  | 6      | 32 + 16 + 32  | softmax binds: many warps, little of it in a row                      |
// | 64, long | 3 x 128 | 2      | 64 + 32 + 32  | fewer barriers a key; dense only, where few tiles are ragged          |
// | 96, 128  | 3 x 64  | 4      | 32 + 16 + 64  | three warpgroups hide each other's softmax: tensor pipe 95% active    |
// | 192      | 2 x 96  | 2      | 48 + 24 + 96  | shared memory: 48 KB of Q, 36 KB a block of K or of V                 |
// | 192, 128 | 3 x 64  | 3      | 32 + 16 + 64  | as 128                                                                |
// | 256      | 2 x 64  | 2      | 32 + 16 + 128 | shared memory: 64 KB of Q, 32 KB a block of K or of V                 |
//
// clang-format on

}  // namespace triage::attention::sm90
