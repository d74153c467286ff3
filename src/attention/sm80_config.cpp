// The sm80 family's attention row: what it takes, with how much workspace.
#include <array>
#include <string>

#include "attention/geometry.h"
#include "attention/sm80_kernels.h"
#include "attention/sm80_rows.h"
#include "attention/sm80_tuning.h"

#ifndef TRIAGE_HAS_SM80
#define TRIAGE_HAS_SM80 0
#endif

namespace triage {

namespace attention::sm80 {

namespace {

Support can_run(const AttentionProblem& problem, const Device& device) {
  if (device.shared_memory_per_block < 99 * 1024) {
    return {false, "it needs 99 KB of shared memory per block, " + device.name + " offers " +
                       std::to_string(device.shared_memory_per_block / 1024)};
  }
  if (problem.total_q >= kMaxLength || problem.seqlen_k >= kMaxLength ||
      (problem.varlen_k && problem.total_k >= kMaxLength)) {
    return {false, "it takes up to 2^29 rows of Q in all and keys of a sequence"};
  }
  const std::int64_t tiles = problem.batch * problem.heads * (problem.seqlen_q / 16 + 1);
  if (tiles >= kMaxLength / kMaxSplits)
    return {false, "it counts tiles in 32 bits, and there are " + std::to_string(tiles)};
  return {};
}

std::size_t workspace_bytes(const AttentionProblem& problem, const Device& device) {
  const Plan plan = plan_forward(problem, device);
  if (problem.block_sparse) return (kCounterWords + tiles_of(problem, plan)) * sizeof(std::int32_t);
  if (plan.splits < 2) return 0;
  return static_cast<std::size_t>(plan.splits) * problem.heads * problem.total_q * (problem.head_dim_v + 1) *
         sizeof(float);
}

#if TRIAGE_HAS_SM80
#define TRIAGE_SM80_CODE(function) &function
#else
#define TRIAGE_SM80_CODE(function) nullptr
#endif

const std::array kRows = {
    AttentionKernel{"sm80_attention_forward", Family::sm80, "float16 bfloat16", "8 to 256",
                    "src/attention/sm80_forward_d128_wide.cu", can_run, workspace_bytes,
                    TRIAGE_SM80_CODE(launch_forward)},
};

}  // namespace
}  // namespace attention::sm80

std::span<const AttentionKernel> sm80_attention_kernels() { return attention::sm80::kRows; }

}  // namespace triage
