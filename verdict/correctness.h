// When is the result of a sparse product correct? The one rule that the tests and the verdict judge by.
//
// The output is cut into tiles: a block's rows of the sparse matrix by up to 64 dense columns. For each tile the oracle
// gives the exact result, and that of a plain computation in the same precision: fp32 sums (float64: double) in the order
// of k, rounded to the dtype. With E the largest |result - exact| of the tile under test and E_plain that of the plain
// computation, the tile is correct if
//
//     E <= 2 * E_plain + S,      S = 2 ulp(largest |exact| of the tile) + 4 u sqrt(terms * (Q + A^2 / 3)).
//
// The largest error is compared, not a mean: a single wrong element among thousands must show. ulp is the dtype's, and it
// is taken at the tile's largest value because rounding errors belong to the large elements, while small elements are
// differences of large sums whose own ulp says nothing about them. The last term covers what E_plain cannot: in a tile of
// few elements the plain computation may be right by luck. It is a bound on rounding noise of the sums themselves: u is
// the unit roundoff they are kept in (2^-24; float64: 2^-53), Q the mean of the sums of the products' squares, A the
// largest sum, bias or beta * C. The k-th partial sum is about sqrt(Q k / terms) + A k / terms, and its rounding a random
// u / sqrt(3) of that, so the noise has a standard deviation near 0.6 u sqrt(terms * (Q / 2 + A^2 / 3)): the term is more
// than six of them. For fp16 and bf16 it is far below an ulp and does not soften the rule.
//
// Besides: over all tiles the relative Frobenius error stays within the dtype's unit roundoff (or twice that of the plain
// computation, if more) plus the same noise; NaN and infinities stand where they must, and nowhere else; and for
// integer-valued inputs every element equals the exact result rounded once.
#pragma once

#include <cstdint>
#include <string>

#include "cpu/oracle.h"

namespace triage::verdict {

struct CheckOptions {
  bool exact = false;      ///< integer-valued inputs: every element must be the exact result, rounded
  double share = 1;        ///< of the tiles; below 1 a random choice by `seed`, at least one tile
  std::uint64_t seed = 0;
  /// Block rows of the sparse matrix (sddmm: of the pattern) to look at; -1: to the last.
  std::int64_t block_row_begin = 0, block_row_end = -1;
};

struct CheckResult {
  bool ok = false;
  double worst_block_ratio = 0;  ///< largest E / (E_plain + S / 2); correct up to 2
  double frobenius = 0;          ///< relative error over all tiles
  double bound = 0;              ///< what `frobenius` may be
  double checked = 0;            ///< share of the output's elements that was compared
  /// First offending element in the output (spmm, linear: its row and column; sddmm: row and column inside of `block`);
  /// -1 if there is none or the whole output offends.
  std::int64_t block = -1, row = -1, column = -1;
  std::string sentence;          ///< what was found; also if all is right
};

/// Judges `result`, laid out as the output of `call` (all pointers in host memory; `call.out`, for sddmm `call.values`,
/// holds what the output held before).
CheckResult check_result(const SparseGemmCall& call, const void* result, const CheckOptions& options = {});

/// S of the rule above for a tile whose largest |exact| is `largest`, and the part of it that comes from the sums.
struct RoundingSlack {
  double total = 0, sums = 0;
};
RoundingSlack rounding_slack(DType dtype, double largest, const OracleNoise& noise);

/// What the Frobenius norm of all errors may be, from sums over the tiles: squares of the exact elements, of the plain
/// computation's errors, and of (slack of the sums + ulp(0)) for each element.
double allowed_frobenius(DType dtype, double exact_squares, double plain_squares, double noise_squares);

/// Distance of neighbouring numbers of the dtype at `value` (the smallest subnormal near 0).
double ulp(DType dtype, double value);
/// Half of ulp(1): the largest relative error of a rounding.
double unit_roundoff(DType dtype);

}  // namespace triage::verdict
