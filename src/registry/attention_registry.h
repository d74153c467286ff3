// The explicit lists of attention kernels, one for each direction, and how a problem finds its kernel.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "registry/attention_kernel.h"
#include "triage/kernels.h"

namespace triage {

/// What receipts and lists call the operations of the rows here.
inline constexpr const char* kAttentionForward = "attention.forward";
inline constexpr const char* kAttentionBackward = "attention.backward";

/// Every kernel, in order of preference.
std::span<const AttentionKernel* const> attention_kernels();
std::span<const AttentionBackwardKernel* const> attention_backward_kernels();

/// Adds a row behind the others, as add_sparse_gemm_kernel does.
void add_attention_kernel(const AttentionKernel& kernel);

/// Whether `kernel` takes `problem` on `device`: compiled, family, dtype, then its own can_run.
Support judge(const AttentionKernel& kernel, const AttentionProblem& problem, const Device& device);
Support judge(const AttentionBackwardKernel& kernel, const AttentionProblem& problem, const Device& device);

/// The first kernel that takes the problem, or the one that TRIAGE_FORCE_KERNEL names (read at each call).
/// @throws Error(unsupported) saying what each kernel lacked.
const AttentionKernel& select_attention(const AttentionProblem& problem, const Device& device);
const AttentionBackwardKernel& select_attention_backward(const AttentionProblem& problem, const Device& device);

/// An ordinary problem that a row of these `dtypes` should take on any device of its family: what is left to refuse is
/// the device.
AttentionProblem ordinary_attention_problem(const char* dtypes);
template <typename Call>
AttentionProblem ordinary_problem(const AttentionKernelOf<Call>& kernel) {
  return ordinary_attention_problem(kernel.dtypes);
}

/// What kernel_reports() tells about attention.
std::vector<KernelReport> attention_reports(const Device& device);

}  // namespace triage
