// The one explicit list of attention kernels, and how a problem finds its kernel.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "registry/attention_kernel.h"
#include "triage/kernels.h"

namespace triage {

/// What receipts and lists call the operation of every row here.
inline constexpr const char* kAttentionForward = "attention.forward";

/// Every kernel, in order of preference.
std::span<const AttentionKernel* const> attention_kernels();

/// Adds a row behind the others, as add_sparse_gemm_kernel does.
void add_attention_kernel(const AttentionKernel& kernel);

/// Whether `kernel` takes `problem` on `device`: compiled, family, dtype, then its own can_run.
Support judge(const AttentionKernel& kernel, const AttentionProblem& problem, const Device& device);

/// The first kernel that takes the problem, or the one that TRIAGE_FORCE_KERNEL names (read at each call).
/// @throws Error(unsupported) saying what each kernel lacked.
const AttentionKernel& select_attention(const AttentionProblem& problem, const Device& device);

/// An ordinary problem that `kernel` should take on any device of its family: what is left to refuse is the device.
AttentionProblem ordinary_problem(const AttentionKernel& kernel);

/// What kernel_reports() tells about attention.
std::vector<KernelReport> attention_reports(const Device& device);

}  // namespace triage
