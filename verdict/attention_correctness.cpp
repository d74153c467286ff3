#include "verdict/attention_correctness.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/parallel.h"
#include "verdict/random_inputs.h"

namespace triage::verdict {
namespace {

// What one row says.
struct RowFinding {
  double ratio = 0;
  double error_squares = 0, plain_squares = 0, exact_squares = 0, noise_squares = 0;
  int bad_column = -1;
  std::string fault;
};

class RowJudge {
 public:
  RowJudge(const AttentionOracle& oracle, const void* o, const float* lse)
      : oracle_(oracle),
        dtype_(oracle.call().problem.dtype),
        dim_(oracle.call().problem.head_dim_v),
        o_(o),
        lse_(lse) {}

  RowFinding judge(const AttentionRow& row) const {
    AttentionRowResult right;
    oracle_.compute(row, &right);
    RowFinding finding;
    judge_output(row, right, finding);
    if (lse_ != nullptr && finding.fault.empty()) judge_lse(row, right, finding);
    return finding;
  }

 private:
  double sum_roundoff() const { return dtype_ == DType::float64 ? 0x1p-53 : 0x1p-24; }

  double logit_error(const AttentionRowResult& right) const {  // L
    const double walk = std::sqrt(static_cast<double>(oracle_.call().problem.head_dim)) / 2;
    return 4 + walk * (std::isfinite(right.logit_size) ? right.logit_size : 0);
  }

  double noise(const AttentionRowResult& right) const {
    const double weights = std::max(unit_roundoff(dtype_), sum_roundoff()) / std::sqrt(3.0);
    const double root = std::isfinite(right.weighted_root) ? right.weighted_root : 0;
    return 4 * (weights + sum_roundoff() * logit_error(right)) * root;
  }

  void judge_output(const AttentionRow& row, const AttentionRowResult& right, RowFinding& finding) const {
    const std::int64_t offset = oracle_.output_offset(row);
    double largest = 0, error = 0, plain_error = 0, got_at_error = 0;
    int column_of_error = -1;
    for (int c = 0; c < dim_; ++c) {
      const double want = right.exact[c], rough = right.plain[c], got = read_element(dtype_, o_, offset + c);
      if (right.keys == 0 && got != 0)
        return fail(finding, c, fmt::format("is {:.9g}, but its query attends nothing", got));
      if (!same_class(got, want)) return fail(finding, c, fmt::format("is {:.9g}, the oracle says {:.9g}", got, want));
      if (!std::isfinite(want) || !std::isfinite(rough)) continue;
      largest = std::max(largest, std::fabs(want));
      const double here = std::fabs(got - want);
      if (here > error) {
        error = here;
        column_of_error = c;
        got_at_error = got;
      }
      plain_error = std::max(plain_error, std::fabs(rough - want));
      finding.error_squares += here * here;
      finding.plain_squares += (rough - want) * (rough - want);
      finding.exact_squares += want * want;
    }
    // Units that work in fp32 may flush what lies below its normal numbers to zero, weights as well as results.
    const double values = std::isfinite(right.value_size) ? std::max(1.0, right.value_size) : 1.0;
    const double flushed = dtype_ == DType::float64 ? 0 : 0x1p-126 * values;
    const double sums = noise(right) + flushed, slack = 2 * ulp(dtype_, largest) + sums;
    finding.noise_squares = dim_ * (sums + ulp(dtype_, 0)) * (sums + ulp(dtype_, 0));
    finding.ratio = error / (plain_error + slack / 2);
    if (finding.ratio <= 2) return;
    fail(finding, column_of_error,
         fmt::format(
             "is {:.9g}, the oracle says {:.9g}: off by {:.3g}, where a plain computation is off by {:.3g} at most "
             "in this row and {:.3g} is accepted",
             got_at_error, right.exact[column_of_error], error, plain_error, 2 * plain_error + slack));
  }

  void judge_lse(const AttentionRow& row, const AttentionRowResult& right, RowFinding& finding) const {
    const double got = lse_[oracle_.lse_offset(row)], want = right.exact_lse;
    if (!same_class(got, want))
      return fail(finding, -1, fmt::format("has the lse {:.9g}, the oracle says {:.9g}", got, want));
    if (!std::isfinite(want)) return;
    const double accepted = 2 * std::fabs(right.plain_lse - want) + 2 * ulp(DType::float32, want) +
                            4 * sum_roundoff() * (logit_error(right) + std::fabs(want));
    if (std::fabs(got - want) <= accepted) return;
    fail(finding, -1,
         fmt::format("has the lse {:.9g}, the oracle says {:.9g}: off by {:.3g}, accepted is {:.3g}", got, want,
                     std::fabs(got - want), accepted));
  }

  static void fail(RowFinding& finding, int column, std::string sentence) {
    finding.bad_column = column;
    finding.fault = std::move(sentence);
  }

  static bool same_class(double got, double want) {
    if (std::isnan(want)) return std::isnan(got);
    if (std::isinf(want)) return got == want;
    return std::isfinite(got);
  }

  const AttentionOracle& oracle_;
  DType dtype_;
  int dim_;
  const void* o_;
  const float* lse_;
};

std::vector<std::int64_t> chosen_rows(const AttentionOracle& oracle, const AttentionCheckOptions& options) {
  const AttentionProblem& p = oracle.call().problem;
  const std::int64_t all = oracle.row_count();
  const double per_row = std::max<double>(1, static_cast<double>(p.seqlen_k) * 2 * (p.head_dim + p.head_dim_v));
  const auto most = static_cast<std::int64_t>(std::max(1.0, options.operations / per_row));
  std::vector<std::int64_t> rows;
  if (all <= most) {
    for (std::int64_t i = 0; i < all; ++i) rows.push_back(i);
    return rows;
  }
  for (std::int64_t i = 0; i < most; ++i)
    rows.push_back(static_cast<std::int64_t>(random_bits(options.seed, static_cast<std::uint64_t>(i)) %
                                             static_cast<std::uint64_t>(all)));
  rows.front() = 0;
  rows.back() = all - 1;  // edges are where tiles end
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

}  // namespace

CheckResult check_attention_result(const AttentionCall& call, const void* o, const float* lse,
                                   const AttentionCheckOptions& options) {
  const AttentionOracle oracle(call);
  const RowJudge judge(oracle, o, lse);
  const std::vector<std::int64_t> rows = chosen_rows(oracle, options);
  std::vector<RowFinding> findings(rows.size());
  constexpr std::int64_t kRowsPerTask = 8;
  const auto count = static_cast<std::int64_t>(rows.size());
  cpu::parallel_for(cpu::available_threads(), (count + kRowsPerTask - 1) / kRowsPerTask, [&](std::int64_t task, int) {
    for (std::int64_t i = task * kRowsPerTask; i < count && i < (task + 1) * kRowsPerTask; ++i)
      findings[static_cast<std::size_t>(i)] = judge.judge(oracle.row(rows[static_cast<std::size_t>(i)]));
  });

  CheckResult check;
  check.ok = true;
  double error = 0, plain = 0, exact = 0, noise = 0;
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const RowFinding& finding = findings[i];
    check.worst_block_ratio = std::max(check.worst_block_ratio, finding.ratio);
    error += finding.error_squares;
    plain += finding.plain_squares;
    exact += finding.exact_squares;
    noise += finding.noise_squares;
    if (finding.fault.empty() || wrong++ > 0) continue;
    const AttentionRow row = oracle.row(rows[i]);
    check.ok = false;
    check.block = row.b;
    check.row = row.query;
    check.column = finding.bad_column;
    check.sentence =
        fmt::format("sequence {}, query {}, head {}{} {}", row.b, row.query, row.head,
                    finding.bad_column < 0 ? "" : fmt::format(", column {}", finding.bad_column), finding.fault);
  }
  const double allowed = allowed_frobenius(call.problem.dtype, exact, plain, noise);
  check.checked =
      oracle.row_count() > 0 ? static_cast<double>(rows.size()) / static_cast<double>(oracle.row_count()) : 1;
  check.frobenius = exact > 0 ? std::sqrt(error / exact) : 0;
  check.bound = exact > 0 ? allowed / std::sqrt(exact) : 0;
  if (wrong > 1) check.sentence += fmt::format("; {} of {} rows are wrong", wrong, rows.size());
  if (check.ok && std::sqrt(error) > allowed) {
    check.ok = false;
    check.sentence =
        fmt::format("the relative Frobenius error is {:.3g}, accepted is {:.3g}", check.frobenius, check.bound);
  }
  if (check.ok) {
    check.sentence = fmt::format("{} rows are right: worst ratio {:.3g}, relative Frobenius error {:.3g} within {:.3g}",
                                 rows.size(), check.worst_block_ratio, check.frobenius, check.bound);
  }
  return check;
}

}  // namespace triage::verdict
