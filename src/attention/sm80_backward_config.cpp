// The sm80 family's row of attention's backward: what it takes, with how much workspace.
#include <array>
#include <string>

#include "attention/geometry.h"
#include "attention/sm80_backward_rows.h"
#include "attention/sm80_kernels.h"

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
  const BackwardPlan plan = plan_backward(problem, device);
  if (plan.rows >= kMaxLength || problem.total_q >= kMaxLength || problem.seqlen_k >= kMaxLength ||
      (problem.varlen_k && problem.total_k >= kMaxLength)) {
    return {false, "it takes up to 2^29 rows of Q in all and keys of a sequence"};
  }
  const std::int64_t ctas = problem.batch * (problem.kv_heads * (problem.seqlen_k / plan.block_n + 1) +
                                             problem.heads * (problem.seqlen_q / plan.block_m + 1));
  if (ctas >= kMaxLength) return {false, "it counts tiles in 32 bits, and there are " + std::to_string(ctas)};
  return {};
}

std::size_t workspace_bytes(const AttentionProblem& problem, const Device& device) {
  return plan_backward(problem, device).bytes();
}

#if TRIAGE_HAS_SM80
#define TRIAGE_SM80_CODE(function) &function
#else
#define TRIAGE_SM80_CODE(function) nullptr
#endif

const std::array kRows = {
    AttentionBackwardKernel{"sm80_attention_backward", Family::sm80, "float16 bfloat16", "8 to 256",
                            "src/attention/sm80_backward_d128_large_bfloat16.cu", can_run, workspace_bytes,
                            TRIAGE_SM80_CODE(launch_backward)},
};

}  // namespace
}  // namespace attention::sm80

std::span<const AttentionBackwardKernel> sm80_attention_backward_kernels() { return attention::sm80::kRows; }

}  // namespace triage
