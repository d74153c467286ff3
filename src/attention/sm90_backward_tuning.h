// The sm90 attention backward's numbers, and why. Host code.
#pragma once

#include <cstddef>

#include "attention/backward_rows.h"
#include "registry/attention_kernel.h"

namespace triage::attention::sm90 {

/// KV heads whose tiles take turns. Few: the tiles of a head that run at once share what they read of Q and dO, and what
/// they add to d_q, in L2. Many: they wait less for each other at the beginning.
constexpr int kHeadsAtOnce = 8;

constexpr std::size_t kBackwardSharedMemory = 227 * 1024;

/// Queries of a block, and the head_dim as padded, of the kernel that takes such a problem.
constexpr int backward_head_dim(const AttentionProblem& problem) {
  return problem.head_dim <= 64 && problem.head_dim_v <= 64 ? 64 : 128;
}
constexpr int backward_block_m(int head_dim) { return head_dim == 64 ? 128 : 64; }

/// Offsets in the workspace, in bytes.
struct BackwardWorkspace {
  std::int64_t rows;                 ///< padded rows of a head
  std::size_t counter, flags;        ///< the tile counter alone in its cache lines, and the flags behind: zeroed
  std::size_t zero_bytes;            ///< of both
  std::size_t lse, delta, sums, plan;
  std::size_t bytes;
};

inline BackwardWorkspace backward_workspace(const AttentionProblem& problem, int block_m, int head_dim) {
  BackwardWorkspace w{};
  std::size_t end = 0;
  const auto take = [&](std::size_t bytes) {
    const std::size_t start = end;
    end += (bytes + 255) / 256 * 256;
    return start;
  };
  w.rows = padded_rows(problem, block_m);
  const auto heads = static_cast<std::size_t>(problem.heads), rows = static_cast<std::size_t>(w.rows);
  w.counter = take(256);
  w.flags = take(heads * (rows / block_m) * 4 * sizeof(std::int32_t));
  w.zero_bytes = end;
  w.lse = take(heads * rows * sizeof(float));
  w.delta = take(heads * rows * sizeof(float));
  w.sums = take(heads * rows * head_dim * sizeof(float));
  w.plan = take(problem.varlen_k ? (2 * static_cast<std::size_t>(problem.batch) + 1) * sizeof(std::int32_t) : 0);
  w.bytes = end;
  return w;
}

}  // namespace triage::attention::sm90
