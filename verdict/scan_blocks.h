// Blocks of a weight matrix: which are zero, and which are worth keeping.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "triage/block_pattern.h"
#include "verdict/scan_weights.h"

namespace triage::verdict {

inline constexpr std::array<int, 4> kBlockSizes{16, 32, 64, 128};

/// Which blocks exist, on the host, before it becomes a BlockPattern.
struct BlockList {
  std::int64_t rows = 0, cols = 0;
  int block = 0;
  std::vector<std::int32_t> crow{0};
  std::vector<std::int32_t> col;

  std::int64_t block_rows() const { return (rows + block - 1) / block; }
  std::int64_t block_cols() const { return (cols + block - 1) / block; }
  std::int64_t total() const { return block_rows() * block_cols(); }
  std::int64_t nonzero() const { return static_cast<std::int64_t>(col.size()); }
  double density() const { return static_cast<double>(nonzero()) / static_cast<double>(total()); }
  BlockPattern pattern() const;
  friend bool operator==(const BlockList&, const BlockList&) = default;
};

/// The nonzero blocks of a matrix at every size of kBlockSizes, in that order. One pass over the data, a band of 128
/// rows at a time. NaN is nonzero; -0 is zero.
std::array<BlockList, 4> census(const WeightMatrix& matrix);

/// Squared Frobenius norm of each block, row-major over blocks. A block with a NaN counts as infinite: it is kept, and
/// seen, rather than pruned away.
std::vector<double> block_norms(const WeightMatrix& matrix, int block);

/// The round(density * blocks) blocks of largest norm, at least one; between equals the earlier one stays. Blocks that
/// are all zero are never kept.
BlockList keep_largest(const WeightMatrix& matrix, int block, double density);

/// round(density * blocks) blocks at random places; the same for the same arguments.
BlockList random_blocks(std::int64_t rows, std::int64_t cols, int block, double density, std::uint64_t seed);

}  // namespace triage::verdict
