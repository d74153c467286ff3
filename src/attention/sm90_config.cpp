// The sm90 family's attention row: what it takes, with how much workspace.
#include <algorithm>
#include <array>
#include <string>

#include "attention/geometry.h"
#include "attention/sm90_kernels.h"
#include "attention/sm90_rows.h"
#include "attention/sm90_tuning.h"

#ifndef TRIAGE_HAS_SM90
#define TRIAGE_HAS_SM90 0
#endif

namespace triage {

namespace attention::sm90 {

namespace {

Support can_run(const AttentionProblem& problem, const Device& device) {
  if (problem.block_sparse && std::max(problem.head_dim, problem.head_dim_v) > 128) {
    return {false, "it takes block-sparse masks with head dimensions up to 128"};
  }
  if (problem.page_size != 0) return {false, "it takes no paged cache"};
  if (problem.num_splits > 1) return {false, "it does not split keys"};
  if (!problem.aligned16)
    return {false, "it needs tensors aligned to 16 bytes and strides that are multiples of 8 elements"};
  if (problem.seqlen_k == 0 || problem.total_k == 0) return {false, "it needs at least one key"};
  if (problem.total_q >= kMaxLength || problem.total_k >= kMaxLength) {
    return {false, "it takes up to 2^29 rows in all"};
  }
  if (device.shared_memory_per_block < kSharedMemory) {
    return {false, "it needs " + std::to_string(kSharedMemory / 1024) + " KB of shared memory per block, " +
                       device.name + " offers " + std::to_string(device.shared_memory_per_block / 1024)};
  }
  const std::int64_t tiles = problem.batch * problem.heads * (problem.seqlen_q / 128 + 1);
  if (tiles >= kMaxLength) return {false, "it counts tiles in 32 bits, and there are " + std::to_string(tiles)};
  // Few queries against many keys leave most of the GPU idle: that is what splitting keys is for.
  if (!problem.block_sparse && prefers_splits(problem, device))
    return {false, "there are too few queries to fill the GPU without splitting keys"};
  return {};
}

std::size_t workspace_bytes(const AttentionProblem& problem, const Device&) { return forward_workspace_bytes(problem); }

#if TRIAGE_HAS_SM90
// From the call's head dimensions to the kernel that pads them least.
void launch(const AttentionCall& call) {
  const int d = call.problem.head_dim, v = call.problem.head_dim_v, larger = std::max(d, v);
  if (call.problem.block_sparse) {
    larger <= 64 ? launch_sparse_d64(call) : launch_sparse_d128(call);
  } else if (larger <= 64) {
    launch_d64(call);
  } else if (larger <= 96) {
    launch_d96(call);
  } else if (larger <= 128) {
    launch_d128(call);
  } else if (larger <= 192) {
    v <= 128 ? launch_d192_v128(call) : launch_d192(call);
  } else {
    launch_d256(call);
  }
}
#define TRIAGE_SM90_CODE(function) &function
#else
#define TRIAGE_SM90_CODE(function) nullptr
#endif

[[maybe_unused]] const std::array kRows = {
    AttentionKernel{"sm90_attention_forward", Family::sm90, "float16 bfloat16", "8 to 256",
                    "src/attention/sm90_forward_d128.cu", can_run, workspace_bytes, TRIAGE_SM90_CODE(launch)},
};

}  // namespace
}  // namespace attention::sm90

std::span<const AttentionKernel> sm90_attention_kernels() { return attention::sm90::kRows; }

}  // namespace triage
