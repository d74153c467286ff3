// The oracle: what the sparse products should give, computed straight from their definition. It knows nothing of
// schedules, panels or packing, so that it can judge the CPU backend too.
#pragma once

#include <cstdint>

#include "registry/kernel.h"

namespace triage {

/// A piece of an operation's output: at most one block's rows of the sparse matrix, and at most kOracleColumns columns of
/// the dense operand (spmm: columns; linear: tokens, its output being transposed; sddmm: of a block).
inline constexpr int kOracleColumns = 64;
inline constexpr int kOracleRows = 128;

struct OracleTile {
  std::int32_t block_row = 0;
  std::int64_t block = -1;   ///< sddmm: position in `values`; else -1
  std::int64_t column = 0;   ///< first dense column (sddmm: column inside the block)
  int rows = 0, columns = 0;  ///< without the padding of ragged edges

  /// Where element (r, c) of the tile lies in the output of `call`, in elements from its start.
  std::int64_t output_offset(const SparseGemmCall& call, int r, int c) const;
};

/// What can be said beforehand about the rounding errors of a tile, see verdict/correctness.h. Non-finite inputs count
/// for 0.
struct OracleNoise {
  double terms = 0;        ///< products in a sum
  double mean_square = 0;  ///< mean over the tile of the sum of the products' squares, times alpha^2
  double magnitude = 0;    ///< largest finite value among sums, bias and beta * previous output
};

/// The products of `call`, all of whose pointers are in host memory. `call.out` (sddmm: `call.values`) is read for
/// `beta`: it must hold what the output held before the operation.
class Oracle {
 public:
  explicit Oracle(const SparseGemmCall& call);

  const SparseGemmCall& call() const { return call_; }
  std::int64_t tile_count() const { return row_tiles_ * column_tiles_; }
  /// Tiles are ordered by block row (sddmm: by block), so that a range of them is a range of block rows.
  std::int64_t tiles_per_row() const { return column_tiles_; }
  OracleTile tile(std::int64_t index) const;

  /// `exact` [rows][kOracleColumns]: sums in double precision (float64: long double), not rounded to the dtype.
  /// `plain` likewise: the same computation as a plain loop in the dtype's own way: sums in float (float64: double) in
  /// the order of k, the result rounded to the dtype.
  void compute(const OracleTile& tile, double* exact, double* plain, OracleNoise* noise) const;

 private:
  SparseGemmCall call_;
  std::int64_t row_tiles_ = 0, column_tiles_ = 0;
};

}  // namespace triage
