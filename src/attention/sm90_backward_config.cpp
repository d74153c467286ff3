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
  if (problem.block_sparse) {  // docs/attention_backward.md, "What is not there"
    if (problem.varlen_k) return {false, "with a block-sparse mask it takes no cu_seqlens_k"};
    if (problem.head_dim != problem.head_dim_v || problem.head_dim % 64 != 0) {
      return {false, "with a block-sparse mask it takes head dimensions of 64 or of 128 alone, not " +
                         std::to_string(problem.head_dim) + " and " + std::to_string(problem.head_dim_v)};
    }
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

std::size_t backward_workspace_bytes(const AttentionProblem& problem, const Device&) {
  return backward_workspace(problem).bytes;
}

#if TRIAGE_HAS_SM90
void launch_backward(const AttentionBackwardCall& call) {
  const AttentionProblem& problem = call.forward.problem;
  if (problem.block_sparse) {
    backward_head_dim(problem) == 64 ? launch_backward_sparse_d64(call) : launch_backward_sparse_d128(call);
  } else {
    backward_head_dim(problem) == 64 ? launch_backward_d64(call) : launch_backward_d128(call);
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
