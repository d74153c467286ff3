// The sm90 attention backward's numbers, and why.
#pragma once

#include <cstddef>

#include "attention/backward_rows.h"
#include "attention/sm90_backward_sums.h"
#include "registry/attention_kernel.h"

namespace triage::attention::sm90 {

/// KV heads whose tiles of keys take turns: few, so that the tiles of a head that run at once share Q and dO in L2.
constexpr int kKeyHeadsAtOnce = 8;
/// Of L2, for the keys and values of the heads whose queries are at work at once.
constexpr double kBackwardL2Share = 0.65;
/// Of L2, for the sums of d_q (one pass) of the KV heads whose tiles take turns: additions to what has left it wait for
/// HBM.
constexpr double kSumsL2Share = 0.35;
/// Statistics of query rows are padded to this many; a multiple of every block of queries below.
constexpr int kBackwardRowBlock = 128;

constexpr std::size_t kBackwardSharedMemory = 227 * 1024;

/// The head_dim as padded of the kernel that takes such a problem.
inline int backward_head_dim(const AttentionProblem& problem) {
  return problem.head_dim <= 64 && problem.head_dim_v <= 64 ? 64 : 128;
}

// Tiles. Registers are accumulators of a thread.
// clang-format off
//
// | pass    | head_dim | tile        | block       | registers         | why                                         |
// |---------|----------|-------------|-------------|-------------------|---------------------------------------------|
// | d_k d_v | 64       | 128 keys    | 128 queries | 32+32 + 64+64     | less of K and V to read off shared memory   |
// | d_k d_v | 128      | 128 keys    | 64 queries  | 64+64 + 32+32     | 128 queries would not fit                   |
// | all     | 64       | 256 keys    | 64 queries  | 64+64 + 32+32     | twice the keys: half the additions to d_q   |
// | all     | 128      | 2x 128 keys | 64 queries  | 64+64 + 32+32     | two CTAs side by side: as above             |
// | all, sparse | both | 128 keys    | 64 queries  | 64+64 + 32+32     | two rows of bits                            |
// | d_q     | 64       | 192 queries | 128 keys    | 32 + 64 (S or dP) | as above                                    |
// | d_q     | 128      | 192 queries | 64 keys     | 64 + 32 (S or dP) | three groups hide each other's exponentials |
//
// clang-format on

/// Offsets in the workspace, in bytes.
struct BackwardWorkspace {
  std::int64_t rows;                       ///< padded rows of a head
  std::size_t key_counter, query_counter;  ///< of tiles, each alone in its cache lines: zeroed
  std::size_t counter_bytes;               ///< of both
  std::size_t lse, delta, key_plan, query_plan;
  std::size_t key_order, query_order;  ///< of block-sparse tiles
  std::size_t sums, sum_bytes;         ///< one pass, see sm90_backward_sums.h; right behind the counters
  std::size_t sum_states, sum_rows;    ///< one pass
  std::size_t bytes;
};

inline BackwardWorkspace backward_workspace(const AttentionProblem& problem, bool one_pass = false) {
  BackwardWorkspace w{};
  const auto take = [&](std::size_t bytes) {
    const std::size_t start = w.bytes;
    w.bytes += (bytes + 255) / 256 * 256;
    return start;
  };
  w.rows = padded_rows(problem, kBackwardRowBlock);
  const std::size_t row_bytes = static_cast<std::size_t>(problem.heads) * static_cast<std::size_t>(w.rows) * 4;
  const std::size_t plan_bytes = (2 * static_cast<std::size_t>(problem.batch) + 1) * sizeof(std::int32_t);
  w.key_counter = take(256);
  w.query_counter = take(256);
  w.counter_bytes = w.bytes;
  const auto take_sums = [&](std::size_t bytes_of_row, std::size_t bytes_of_block) {
    return take(one_pass ? row_bytes / 4 * bytes_of_row + row_bytes / 4 / kSumRows * bytes_of_block : 0);
  };
  w.sums = take_sums(static_cast<std::size_t>(backward_head_dim(problem)) * sizeof(float), 0);
  w.sum_bytes = w.bytes - w.sums;
  w.sum_states = take_sums(0, 2 * sizeof(std::uint32_t));
  w.sum_rows = take_sums(0, sizeof(SumRows));
  w.lse = take(row_bytes);
  w.delta = take(row_bytes);
  w.key_plan = take(problem.varlen_k ? plan_bytes : 0);
  w.query_plan = take(problem.varlen_q ? plan_bytes : 0);
  const auto order_bytes = [&](std::int64_t heads, std::int64_t rows, std::int64_t tile) {
    const std::int64_t tiles = problem.batch * heads * ((rows + tile - 1) / tile);
    return problem.block_sparse ? static_cast<std::size_t>(tiles) * sizeof(std::int32_t) : 0;
  };
  w.key_order = take(order_bytes(problem.kv_heads, problem.seqlen_k, 128));
  w.query_order = take(order_bytes(problem.heads, problem.seqlen_q, 192));
  return w;
}

}  // namespace triage::attention::sm90
