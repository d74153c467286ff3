// Block patterns of known kinds, the same on every machine for the same seed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace triage::bench {

/// A BSR pattern in host memory.
struct HostPattern {
  std::int64_t block_rows = 0, block_cols = 0;
  std::vector<std::int32_t> crow{0};
  std::vector<std::int32_t> col;
  std::int64_t nnz_blocks() const { return static_cast<std::int64_t>(col.size()); }
};

/// The kinds that make_pattern knows:
///   uniform     every block exists with probability `density`, independently of the others
///   equal_rows  every row has the same number of blocks, at random places
///   banded      the blocks nearest to the diagonal
///   power_law   row lengths fall like 1/sqrt(rank), rows in random order
///   skewed      one row in 64 is full, the others share the rest
///   holes       uniform, but a third of the rows and a third of the columns have no block at all
///   experts     block diagonal with uneven pieces, round(1/density) of them: tokens sorted by expert
const std::vector<std::string>& pattern_kinds();

/// A pattern with close to `density` of all blocks.
/// @throws std::invalid_argument for a kind that is not known or a density outside of [0, 1].
HostPattern make_pattern(const std::string& kind, std::int64_t block_rows, std::int64_t block_cols, double density,
                         std::uint64_t seed);

}  // namespace triage::bench
