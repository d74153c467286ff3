// The problems on which attention's correctness is tried: by the tests and by the verdict's grid.
#pragma once

#include <cstdint>
#include <vector>

#include "triage/kernels.h"
#include "verdict/attention_backward_problem.h"
#include "verdict/attention_problem.h"

namespace triage::verdict {

/// Every head dimension, lengths around tile edges, masks, GQA, varlen, caches, pages, sinks, splits, memory layouts
/// and kinds of values, one thing at a time. `thorough`: also what takes long.
std::vector<AttentionSpec> attention_edge_cases(DType dtype, std::uint64_t seed, bool thorough = true);

/// Everything at once, at random.
std::vector<AttentionSpec> attention_random_cases(DType dtype, int count, std::uint64_t seed,
                                                  std::int64_t max_length = 300);

/// Both, for each dtype that the kernel takes.
std::vector<AttentionSpec> attention_cases_of_kernel(const KernelReport& kernel, int random_count, std::uint64_t seed);

/// Those of the above that have a backward, with what only the backward has: a gradient that reaches lse, gradients that
/// are not wanted, sums in any order.
std::vector<AttentionBackwardSpec> attention_backward_edge_cases(DType dtype, std::uint64_t seed, bool thorough = true);
std::vector<AttentionBackwardSpec> attention_backward_random_cases(DType dtype, int count, std::uint64_t seed,
                                                                   std::int64_t max_length = 300);
std::vector<AttentionBackwardSpec> attention_backward_cases_of_kernel(const KernelReport& kernel, int random_count,
                                                                      std::uint64_t seed);

/// What the oracle may spend on one of these.
AttentionCheckOptions attention_check_options(const AttentionSpec& spec);

}  // namespace triage::verdict
