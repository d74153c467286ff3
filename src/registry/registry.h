// The one explicit list of kernels, and how a problem finds its kernel.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "registry/kernel.h"
#include "triage/kernels.h"

namespace triage {

const char* dtype_name(DType dtype);              ///< "float16", ...
const char* operation_name(Operation operation);  ///< "sparse_gemm.spmm", ...
const char* family_name(Family family);           ///< "sm80", ...

/// The words of a space-separated list, and whether `dtype` is one of them: how rows name their dtypes.
std::vector<std::string> split_words(std::string_view text);
bool lists_dtype(std::string_view dtypes, DType dtype);

/// Every kernel of block-sparse GEMM, in order of preference.
std::span<const SparseGemmKernel* const> sparse_gemm_kernels();

/// Adds a row behind the others, for this process alone: a kernel that is not Triage's own (`triage verdict --library`).
/// The row's strings must live on. Call it before anything else uses the registry from another thread.
void add_sparse_gemm_kernel(const SparseGemmKernel& kernel);

/// Whether kernels of `family` run on `device`, whatever this build holds (the support matrix asks about other
/// machines).
Support family_runs_on(Family family, const Device& device);

/// Whether `kernel` takes `problem` on `device`: compiled, family, operation, block, dtype, layout, then its own
/// can_run.
Support judge(const SparseGemmKernel& kernel, const SparseGemmProblem& problem, const Device& device);

/// The first kernel that takes the problem, or the one that TRIAGE_FORCE_KERNEL names (read at each call).
/// ValuesLayout::packed is served only by select_packing's kernel: another one would read the values wrongly.
/// @throws Error(unsupported) saying what each kernel lacked.
const SparseGemmKernel& select_sparse_gemm(const SparseGemmProblem& problem, const Device& device);

/// The kernel whose packed layout prepack writes. It depends on the problem's operation, dtype, block and sparse matrix
/// alone, so that packing and use agree.
const SparseGemmKernel& select_packing(const SparseGemmProblem& problem, const Device& device);

/// What the kernels that can run on `device` ask of a pattern of this shape; each spec once.
std::vector<ScheduleSpec> schedule_specs(const PatternShape& pattern, const Device& device);

}  // namespace triage
