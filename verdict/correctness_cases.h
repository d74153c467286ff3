// The grid of problems on which every kernel is judged, by the tests and by the verdict alike.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "triage/kernels.h"
#include "verdict/problem.h"

namespace triage::verdict {

/// @throws std::invalid_argument for a name that no dtype or operation has.
DType dtype_from_name(const std::string& name);
Operation operation_from_name(const std::string& name);

/// The kinds of bench::make_pattern and besides: full, empty, one_block, last_block, one_long_row (one full row, else one
/// block a row), empty_ends (no block in the first and last row and column).
bench::HostPattern make_case_pattern(const std::string& kind, std::int64_t block_rows, std::int64_t block_cols,
                                     double density, std::uint64_t seed);

/// Fixed problems around every edge: dense sizes, rows and columns about tile and block boundaries, every kind of
/// pattern, strides, alignments, epilogues, layouts, kinds of inputs (integers are to be judged exactly).
std::vector<ProblemSpec> edge_cases(Operation operation, DType dtype, int block, std::uint64_t seed);

/// `count` problems in which everything is random, of up to about `max_dimension` rows, columns and dense size.
std::vector<ProblemSpec> random_cases(Operation operation, DType dtype, int block, int count, std::uint64_t seed,
                                      std::int64_t max_dimension = 600);

/// Edge and random cases for everything that a kernel takes: each of its dtypes and block sizes.
std::vector<ProblemSpec> cases_of_kernel(const KernelReport& kernel, int random_count, std::uint64_t seed);

/// Whether the problem's result must be exact: integers in, and nothing but sums and integer factors on their way.
CheckOptions check_options(const ProblemSpec& spec);

}  // namespace triage::verdict
