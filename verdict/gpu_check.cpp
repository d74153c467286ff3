// check_result's rule on what the GPU oracle found.
#if TRIAGE_HAS_CUDA

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "verdict/gpu_kernels.h"

namespace triage::verdict {
namespace {

/// The rule of correctness.h over the tiles.
CheckResult judge(const SparseGemmCall& call, const std::vector<OracleTileStats>& tiles) {
  const DType dtype = call.problem.dtype;
  const bool sddmm = call.problem.operation == Operation::sddmm;
  const std::size_t columns = static_cast<std::size_t>(sddmm ? call.problem.block : call.problem.dense);
  const std::size_t column_tiles = (columns + kOracleColumns - 1) / kOracleColumns;
  CheckResult check;
  check.ok = true;
  double error = 0, plain = 0, exact = 0, noise_squares = 0;
  std::int64_t wrong = 0;
  for (std::size_t t = 0; t < tiles.size(); ++t) {
    const OracleTileStats& tile = tiles[t];
    if (tile.elements == 0) continue;
    const OracleNoise noise{tile.terms, tile.product_squares / tile.elements, tile.magnitude};
    const RoundingSlack slack = rounding_slack(dtype, tile.largest, noise);
    const double ratio = tile.error / (tile.plain_error + slack.total / 2);
    check.worst_block_ratio = std::max(check.worst_block_ratio, ratio);
    error += tile.error_squares;
    plain += tile.plain_squares;
    exact += tile.exact_squares;
    const double element_noise = slack.sums + ulp(dtype, 0);
    noise_squares += tile.elements * element_noise * element_noise;
    if (ratio <= 2 && tile.not_finite == 0) continue;
    if (wrong++ > 0) continue;
    check.ok = false;
    check.sentence = fmt::format("{} {}, columns from {}: ", sddmm ? "block" : "block row", t / column_tiles, t % column_tiles * kOracleColumns);
    check.sentence += tile.not_finite > 0
                          ? fmt::format("{} elements are NaN or infinite where the oracle is finite", tile.not_finite)
                          : fmt::format("off by {:.4g}, where a plain computation is off by {:.4g} and {:.4g} is accepted",
                                        tile.error, tile.plain_error, 2 * tile.plain_error + slack.total);
  }
  const double allowed = allowed_frobenius(dtype, exact, plain, noise_squares);
  check.checked = 1;
  check.frobenius = exact > 0 ? std::sqrt(error / exact) : 0;
  check.bound = exact > 0 ? allowed / std::sqrt(exact) : 0;
  if (wrong > 1) check.sentence += fmt::format("; {} of {} tiles are wrong", wrong, tiles.size());
  if (check.ok && std::sqrt(error) > allowed) {
    check.ok = false;
    check.sentence = fmt::format("the relative Frobenius error is {:.4g}, accepted is {:.4g}", check.frobenius, check.bound);
  }
  return check;
}

}  // namespace

CheckResult gpu_check_result(const SparseGemmCall& call, Stream stream) {
  return judge(call, gpu_oracle_stats(call, stream));
}

}  // namespace triage::verdict

#endif  // TRIAGE_HAS_CUDA
