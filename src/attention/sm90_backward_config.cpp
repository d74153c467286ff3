// The sm90 family's row of attention's backward: what it takes, with how much workspace.
#include <algorithm>
#include <array>
#include <string>

#include "attention/geometry.h"
#include "attention/sm90_backward_kernels.h"
#include "attention/sm90_backward_tuning.h"
#include "attention/sm90_kernels.h"

#ifndef TRIAGE_HAS_SM90
#define TRIAGE_HAS_SM90 0
#endif

namespace triage {

namespace attention::sm90 {

namespace {

Support can_run_backward(const AttentionProblem& problem, const Device& device) {
  if (std::max(problem.head_dim, problem.head_dim_v) > 128) {
    return {false, "it takes head dimensions up to 128, not " + std::to_string(problem.head_dim) + " and " +
                       std::to_string(problem.head_dim_v)};
  }
  if (!problem.aligned16) {
    return {false, "it needs tensors aligned to 16 bytes and strides that are multiples of 8 elements"};
  }
  if (problem.seqlen_q == 0 || problem.total_q == 0 || problem.seqlen_k == 0 || problem.total_k == 0) {
    return {false, "it needs at least one query and one key"};
  }
  if (problem.total_q >= kMaxLength || problem.total_k >= kMaxLength) {
    return {false, "it takes up to 2^29 rows in all"};
  }
  if (device.shared_memory_per_block < kBackwardSharedMemory) {
    return {false, "it needs " + std::to_string(kBackwardSharedMemory / 1024) + " KB of shared memory per block, " +
                       device.name + " offers " + std::to_string(device.shared_memory_per_block / 1024)};
  }
  const std::int64_t tiles = problem.batch * problem.kv_heads * (problem.seqlen_k / 128 + 1),
                     blocks = problem.heads * (padded_rows(problem, kBackwardRowBlock) / 64);
  if (std::max(tiles, blocks) >= kMaxLength) {
    return {false, "it counts tiles in 32 bits, and there are " + std::to_string(std::max(tiles, blocks))};
  }
  return {};
}

// Two passes repeat bitwise, one is faster. It counts the tiles of 128 or more keys that a query attends.
bool may_add_in_any_order(const AttentionProblem& problem) {
  return !problem.deterministic && problem.seqlen_k / 128 < std::int64_t{sum_state::kMostTiles};
}

std::size_t backward_workspace_bytes(const AttentionProblem& problem, const Device&) {
  return backward_workspace(problem, may_add_in_any_order(problem)).bytes;
}

#if TRIAGE_HAS_SM90
void launch_backward(const AttentionBackwardCall& call) {
  const AttentionProblem& problem = call.forward.problem;
  const bool wide = backward_head_dim(problem) > 64;
  const bool d_q = call.d_q.data != nullptr, d_k_or_v = call.d_k.data != nullptr || call.d_v.data != nullptr;
  if (may_add_in_any_order(problem) && d_q && d_k_or_v) {  // of some gradients alone, two passes leave out more
    if (problem.block_sparse) {
      wide ? launch_one_pass_sparse_d128(call) : launch_one_pass_sparse_d64(call);
    } else {
      wide ? launch_one_pass_d128(call) : launch_one_pass_d64(call);
    }
  } else if (problem.block_sparse) {
    wide ? launch_backward_sparse_d128(call) : launch_backward_sparse_d64(call);
  } else {
    wide ? launch_backward_d128(call) : launch_backward_d64(call);
  }
}
#define TRIAGE_SM90_CODE(function) &function
#else
#define TRIAGE_SM90_CODE(function) nullptr
#endif

[[maybe_unused]] const std::array kRows = {
    AttentionBackwardKernel{"sm90_attention_backward", Family::sm90, "float16 bfloat16", "8 to 128",
                            "src/attention/sm90_backward_d128.cu", can_run_backward, backward_workspace_bytes,
                            TRIAGE_SM90_CODE(launch_backward)},
};

}  // namespace
}  // namespace attention::sm90

std::span<const AttentionBackwardKernel> sm90_attention_backward_kernels() { return attention::sm90::kRows; }

}  // namespace triage
