#include "verdict/correctness.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

#include "cpu/parallel.h"
#include "verdict/random_inputs.h"

namespace triage::verdict {
namespace {

struct Format {
  int mantissa_bits;  // without the hidden one
  int min_exponent;   // of the smallest normal number
  double largest;
};

Format format_of(DType dtype) {
  switch (dtype) {
    case DType::float16: return {10, -14, 65504.0};
    case DType::bfloat16: return {7, -126, 0x1.fep127};
    case DType::float32: return {23, -126, 0x1.fffffep127};
    case DType::float64: break;
  }
  return {52, -1022, std::numeric_limits<double>::max()};
}

double rounded(DType dtype, double value) {
  double storage = 0;
  write_element(dtype, &storage, 0, value);
  return read_element(dtype, &storage, 0);
}

std::string number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

// What one tile says.
struct TileFinding {
  double ratio = 0;
  double error_squares = 0, plain_squares = 0, exact_squares = 0, noise_squares = 0;
  std::int64_t elements = 0;
  int bad_row = -1, bad_column = -1;
  std::string fault;
};

class TileJudge {
 public:
  TileJudge(const Oracle& oracle, const void* result, bool exact)
      : oracle_(oracle), dtype_(oracle.call().problem.dtype), result_(result), exact_only_(exact), format_(format_of(dtype_)) {}

  TileFinding judge(const OracleTile& tile) const {
    TileFinding finding;
    if (tile.rows <= 0 || tile.columns <= 0) return finding;
    std::vector<double> exact(kOracleRows * kOracleColumns), plain(kOracleRows * kOracleColumns);
    OracleNoise noise;
    oracle_.compute(tile, exact.data(), plain.data(), &noise);

    // Non-finite results first; they take no part in the errors.
    double largest = 0, error = 0, plain_error = 0, got_at_error = 0, exact_at_error = 0;
    int row_of_error = -1, column_of_error = -1;
    for (int r = 0; r < tile.rows; ++r)
      for (int c = 0; c < tile.columns; ++c) {
        ++finding.elements;
        const double want = exact[r * kOracleColumns + c], rough = plain[r * kOracleColumns + c];
        const double got = read_element(dtype_, result_, tile.output_offset(oracle_.call(), r, c));
        const std::string fault = exact_only_ ? wrong_integer(got, want) : wrong_class(got, want, rough);
        if (!fault.empty() && finding.fault.empty()) {
          finding.fault = fault;
          finding.bad_row = r;
          finding.bad_column = c;
        }
        if (!std::isfinite(got) || !std::isfinite(want) || !std::isfinite(rough)) continue;
        largest = std::max(largest, std::fabs(want));
        const double here = std::fabs(got - want);
        if (here > error) {
          error = here;
          row_of_error = r;
          column_of_error = c;
          got_at_error = got;
          exact_at_error = want;
        }
        plain_error = std::max(plain_error, std::fabs(rough - want));
        finding.error_squares += here * here;
        finding.plain_squares += (rough - want) * (rough - want);
        finding.exact_squares += want * want;
      }

    const auto [slack, sums] = rounding_slack(dtype_, largest, noise);
    finding.ratio = error / (plain_error + slack / 2);
    finding.noise_squares = static_cast<double>(finding.elements) * (sums + ulp(dtype_, 0)) * (sums + ulp(dtype_, 0));
    if (finding.ratio > 2 && finding.fault.empty()) {
      finding.bad_row = row_of_error;
      finding.bad_column = column_of_error;
      finding.fault = "is " + number(got_at_error) + ", the oracle says " + number(exact_at_error) + ": off by " +
                      number(error) + ", where a plain computation is off by " + number(plain_error) +
                      " at most in this block and " + number(2 * plain_error + slack) + " is accepted";
    }
    return finding;
  }

 private:
  std::string wrong_integer(double got, double want) const {
    const double right = rounded(dtype_, want);
    if (got == right || (std::isnan(got) && std::isnan(right))) return "";
    return "is " + number(got) + ", exactly " + number(right) + " is right";
  }

  // NaN and infinities where they do not belong, or missing.
  std::string wrong_class(double got, double want, double rough) const {
    const auto fault = [&] { return "is " + number(got) + ", the oracle says " + number(want); };
    if (std::isnan(want)) return std::isnan(got) ? "" : fault();
    // Infinities of opposite sign out of overflows on the way: which of them meet depends on the order of the sums.
    if (std::isnan(rough)) return "";
    if (std::isinf(want)) return got == want ? "" : fault();
    // From here the exact result is finite. What rounds beyond the largest number must be infinite; a few ulp around that
    // edge, either will do. (For float64 a finite exact result is within range.)
    if (dtype_ != DType::float64) {
      const double step = ulp(dtype_, format_.largest), beyond = std::fabs(want) - (format_.largest + step / 2);
      if (beyond > 4 * step) return std::isinf(got) && std::signbit(got) == std::signbit(want) ? "" : fault();
      if (beyond > -4 * step) return std::isnan(got) || std::signbit(got) != std::signbit(want) ? fault() : "";
    }
    if (std::isfinite(got)) return "";
    // Sums may overflow on the way to a finite result, then the plain computation's do as well.
    return std::isfinite(rough) ? fault() : "";
  }

  const Oracle& oracle_;
  DType dtype_;
  const void* result_;
  bool exact_only_;
  Format format_;
};

void locate(CheckResult& check, const SparseGemmCall& call, const OracleTile& tile, int r, int c) {
  const std::int64_t row = static_cast<std::int64_t>(tile.block_row) * call.pattern.block + r;
  switch (call.problem.operation) {
    case Operation::spmm:
      check.row = row;
      check.column = tile.column + c;
      break;
    case Operation::linear:
      check.row = tile.column + c;
      check.column = row;
      break;
    case Operation::sddmm:
      check.block = tile.block;
      check.row = r;
      check.column = tile.column + c;
      break;
  }
}

std::string element_name(const CheckResult& check) {
  const std::string place = std::to_string(check.row) + ", " + std::to_string(check.column) + "]";
  return check.block < 0 ? "output[" + place : "values[" + std::to_string(check.block) + ", " + place;
}

// sddmm alone writes padding: it must be 0.
void check_padding(CheckResult& check, const SparseGemmCall& call, const void* result) {
  const std::int64_t block = call.pattern.block;
  for (std::int32_t i = 0; i < call.pattern.block_rows; ++i)
    for (std::int64_t p = call.pattern.crow[i]; p < call.pattern.crow[i + 1]; ++p) {
      const std::int64_t rows = call.pattern.rows - i * block, columns = call.pattern.cols - call.pattern.col[p] * block;
      if (rows >= block && columns >= block) continue;
      for (std::int64_t r = 0; r < block; ++r)
        for (std::int64_t c = 0; c < block; ++c) {
          if (r < rows && c < columns) continue;
          const double got = read_element(call.problem.dtype, result, (p * block + r) * block + c);
          if (got == 0) continue;
          check.ok = false;
          check.block = p;
          check.row = r;
          check.column = c;
          check.sentence = element_name(check) + " is padding and must be 0, but is " + number(got);
          return;
        }
    }
}

std::vector<std::int64_t> chosen_tiles(const Oracle& oracle, const CheckOptions& options) {
  const PatternView& pattern = oracle.call().pattern;
  const std::int64_t last = options.block_row_end < 0 ? pattern.block_rows : options.block_row_end;
  const bool by_block = oracle.call().problem.operation == Operation::sddmm;
  const auto tiles_before = [&](std::int64_t block_row) {
    return (by_block ? pattern.crow[block_row] : block_row) * oracle.tiles_per_row();
  };
  const std::int64_t begin = tiles_before(options.block_row_begin), end = tiles_before(last);
  std::vector<std::int64_t> tiles;
  for (std::int64_t i = begin; i < end; ++i)
    if (options.share >= 1 || static_cast<double>(random_bits(options.seed, i) >> 11) * 0x1p-53 < options.share)
      tiles.push_back(i);
  if (tiles.empty() && begin < end)
    tiles.push_back(begin + static_cast<std::int64_t>(random_bits(options.seed, 0) % static_cast<std::uint64_t>(end - begin)));
  return tiles;
}

std::int64_t output_elements(const SparseGemmCall& call) {
  if (call.problem.operation != Operation::sddmm) return call.problem.rows * call.problem.dense;
  std::int64_t elements = 0;
  const std::int64_t block = call.pattern.block;
  for (std::int32_t i = 0; i < call.pattern.block_rows; ++i)
    for (std::int64_t p = call.pattern.crow[i]; p < call.pattern.crow[i + 1]; ++p)
      elements += std::min(block, call.pattern.rows - i * block) *
                  std::min(block, call.pattern.cols - call.pattern.col[p] * block);
  return elements;
}

}  // namespace

double ulp(DType dtype, double value) {
  const Format format = format_of(dtype);
  const int exponent = value == 0 || !std::isfinite(value) ? format.min_exponent : std::ilogb(value);
  return std::ldexp(1.0, std::max(exponent, format.min_exponent) - format.mantissa_bits);
}

double unit_roundoff(DType dtype) { return ulp(dtype, 1.0) / 2; }

RoundingSlack rounding_slack(DType dtype, double largest, const OracleNoise& noise) {
  const double u = dtype == DType::float64 ? 0x1p-53 : 0x1p-24;
  const double sums =
      4 * u * std::sqrt(std::max(noise.terms, 1.0) * (noise.mean_square + noise.magnitude * noise.magnitude / 3));
  return {2 * ulp(dtype, largest) + sums, sums};
}

double allowed_frobenius(DType dtype, double exact_squares, double plain_squares, double noise_squares) {
  return std::max(unit_roundoff(dtype) * std::sqrt(exact_squares), 2 * std::sqrt(plain_squares)) +
         std::sqrt(noise_squares);
}

CheckResult check_result(const SparseGemmCall& call, const void* result, const CheckOptions& options) {
  const Oracle oracle(call);
  const TileJudge judge(oracle, result, options.exact);
  const std::vector<std::int64_t> tiles = chosen_tiles(oracle, options);
  std::vector<TileFinding> findings(tiles.size());
  cpu::parallel_for(cpu::available_threads(), static_cast<std::int64_t>(tiles.size()),
                    [&](std::int64_t i, int) { findings[i] = judge.judge(oracle.tile(tiles[i])); });

  CheckResult check;
  check.ok = true;
  double error = 0, plain = 0, exact = 0, noise = 0, elements = 0;
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    const TileFinding& finding = findings[i];
    check.worst_block_ratio = std::max(check.worst_block_ratio, finding.ratio);
    error += finding.error_squares;
    plain += finding.plain_squares;
    exact += finding.exact_squares;
    noise += finding.noise_squares;
    elements += static_cast<double>(finding.elements);
    if (finding.fault.empty()) continue;
    if (wrong++ > 0) continue;
    check.ok = false;
    locate(check, call, oracle.tile(tiles[i]), finding.bad_row, finding.bad_column);
    check.sentence = element_name(check) + " " + finding.fault;
  }
  const double all = static_cast<double>(output_elements(call));
  check.checked = all > 0 ? elements / all : 1;
  const double allowed = allowed_frobenius(call.problem.dtype, exact, plain, noise);
  check.frobenius = exact > 0 ? std::sqrt(error / exact) : 0;
  check.bound = exact > 0 ? allowed / std::sqrt(exact) : 0;
  if (wrong > 1) check.sentence += "; " + std::to_string(wrong) + " of " + std::to_string(tiles.size()) + " blocks are wrong";
  if (check.ok && call.problem.operation == Operation::sddmm) check_padding(check, call, result);
  if (check.ok && std::sqrt(error) > allowed) {
    check.ok = false;
    check.sentence = "the relative Frobenius error is " + number(check.frobenius) + ", accepted is " + number(check.bound);
  }
  if (check.ok)
    check.sentence = std::to_string(tiles.size()) + " blocks are right: worst block ratio " +
                     number(check.worst_block_ratio) + ", relative Frobenius error " + number(check.frobenius) +
                     " within " + number(check.bound);
  return check;
}

}  // namespace triage::verdict
