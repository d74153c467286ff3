#include "verdict/attention_backward_correctness.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/parallel.h"
#include "verdict/random_inputs.h"

namespace triage::verdict {
namespace {

// What one row of one gradient says.
struct Finding {
  double ratio = 0;
  double error_squares = 0, plain_squares = 0, exact_squares = 0, noise_squares = 0;
  std::string fault;
};

// What all rows of one gradient say.
struct Gradient {
  explicit Gradient(const char* of) : name(of) {}

  const char* name;
  double ratio = 0, error = 0, plain = 0, exact = 0, noise = 0;
  std::int64_t wrong = 0;
  AttentionRow first_wrong;
  std::string fault;

  void add(const Finding& finding, const AttentionRow& row) {
    ratio = std::max(ratio, finding.ratio);
    error += finding.error_squares;
    plain += finding.plain_squares;
    exact += finding.exact_squares;
    noise += finding.noise_squares;
    if (finding.fault.empty() || wrong++ > 0) return;
    first_wrong = row;
    fault = finding.fault;
  }
};

Finding judge(DType dtype, const AttentionGradientRow& right, int dim, const void* got, std::int64_t offset) {
  Finding finding;
  double largest = 0, error = 0, plain_error = 0;
  int column = 0;
  for (int c = 0; c < dim; ++c) {
    const double want = right.exact[c], here = read_element(dtype, got, offset + c);
    if (right.pairs == 0 && here != 0) {
      finding.fault = fmt::format("column {} is {:.9g}, but nothing attends or is attended here", c, here);
      return finding;
    }
    // What leaves the dtype's range in the plain computation may do so here.
    if (std::isfinite(want) && !std::isfinite(right.plain[c])) continue;
    if (std::isfinite(want) != std::isfinite(here)) {
      finding.fault = fmt::format("column {} is {:.9g}, the oracle says {:.9g}", c, here, want);
      return finding;
    }
    if (!std::isfinite(want)) continue;
    largest = std::max(largest, std::fabs(want));
    const double off = std::fabs(here - want);
    if (off > error) error = off, column = c;
    plain_error = std::max(plain_error, std::fabs(right.plain[c] - want));
    finding.error_squares += off * off;
    finding.plain_squares += (right.plain[c] - want) * (right.plain[c] - want);
    finding.exact_squares += want * want;
  }
  const double flushed = dtype == DType::float64 ? 0 : 0x1p-126;  // units that work in fp32 may flush below that
  const double noise = 4 * (std::isfinite(right.noise) ? right.noise : 0) + flushed;
  const double slack = 2 * ulp(dtype, largest) + noise;
  finding.noise_squares = dim * (noise + ulp(dtype, 0)) * (noise + ulp(dtype, 0));
  finding.ratio = error / (plain_error + slack / 2);
  if (finding.ratio <= 2) return finding;
  finding.fault = fmt::format(
      "column {} is {:.9g}, the oracle says {:.9g}: off by {:.3g}, where a plain computation is off by {:.3g} at most in "
      "this row and {:.3g} is accepted",
      column, read_element(dtype, got, offset + column), right.exact[column], error, plain_error,
      2 * plain_error + slack);
  return finding;
}

// All rows, or an even random choice of at most `most`, the first and the last among them.
std::vector<std::int64_t> chosen(std::int64_t all, double most, std::uint64_t seed) {
  std::vector<std::int64_t> rows;
  const auto count = static_cast<std::int64_t>(std::max(2.0, most));
  if (all <= count) {
    for (std::int64_t i = 0; i < all; ++i) rows.push_back(i);
    return rows;
  }
  for (std::int64_t i = 0; i < count; ++i)
    rows.push_back(static_cast<std::int64_t>(random_bits(seed, static_cast<std::uint64_t>(i)) %
                                             static_cast<std::uint64_t>(all)));
  rows.front() = 0;
  rows.back() = all - 1;
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

// Judges chosen rows on all cores: body(index, finding of the first gradient, of the second).
template <class Body>
void judge_rows(const std::vector<std::int64_t>& rows, std::vector<Finding>& first, std::vector<Finding>& second,
                const Body& body) {
  first.resize(rows.size());
  second.resize(rows.size());
  cpu::parallel_for(cpu::available_threads(), static_cast<std::int64_t>(rows.size()), [&](std::int64_t i, int) {
    const auto at = static_cast<std::size_t>(i);
    body(rows[at], first[at], second[at]);
  });
}

}  // namespace

CheckResult check_attention_gradients(const AttentionBackwardCall& call, const AttentionGradients& got,
                                      const AttentionCheckOptions& options) {
  const AttentionBackwardOracle oracle(call);
  const AttentionProblem& p = call.forward.problem;
  Gradient d_q{"d_q"}, d_k{"d_k"}, d_v{"d_v"}, d_sinks{"d_sinks"};
  const double pair = 4.0 * (p.head_dim + p.head_dim_v);
  std::vector<Finding> first, second;
  double checked = 0, all = 0;
  if (got.d_q != nullptr) {
    const double per_row = std::max(1.0, static_cast<double>(p.seqlen_k) * pair);
    const auto rows = chosen(oracle.query_rows(), options.operations / 2 / per_row, options.seed);
    judge_rows(rows, first, second, [&](std::int64_t index, Finding& finding, Finding&) {
      const AttentionRow row = oracle.query_row(index);
      AttentionGradientRow right;
      oracle.compute_query(row, &right);
      finding = judge(p.dtype, right, p.head_dim, got.d_q, oracle.query_offset(call.d_q, row));
    });
    for (std::size_t i = 0; i < rows.size(); ++i) d_q.add(first[i], oracle.query_row(rows[i]));
    checked += static_cast<double>(rows.size()), all += static_cast<double>(oracle.query_rows());
  }
  if (got.d_k != nullptr || got.d_v != nullptr) {
    const double per_row = std::max(1.0, static_cast<double>(p.seqlen_q * p.group()) * pair);
    const auto rows = chosen(oracle.key_rows(), options.operations / 2 / per_row, options.seed + 1);
    judge_rows(rows, first, second, [&](std::int64_t index, Finding& key, Finding& value) {
      const AttentionRow row = oracle.key_row(index);
      AttentionGradientRow right_key, right_value;
      oracle.compute_key(row, &right_key, &right_value);
      if (got.d_k != nullptr) key = judge(p.dtype, right_key, p.head_dim, got.d_k, oracle.key_offset(call.d_k, row));
      if (got.d_v != nullptr)
        value = judge(p.dtype, right_value, p.head_dim_v, got.d_v, oracle.key_offset(call.d_v, row));
    });
    for (std::size_t i = 0; i < rows.size(); ++i) {
      d_k.add(first[i], oracle.key_row(rows[i]));
      d_v.add(second[i], oracle.key_row(rows[i]));
    }
    checked += static_cast<double>(rows.size()), all += static_cast<double>(oracle.key_rows());
  }
  for (std::int64_t head = 0; got.d_sinks != nullptr && head < p.heads; ++head) {
    const AttentionSinkGradient right = oracle.compute_sink(head);
    AttentionGradientRow row;
    row.pairs = 1;
    row.exact[0] = right.exact;
    row.plain[0] = right.plain;
    row.noise = right.noise;
    d_sinks.add(judge(DType::float32, row, 1, got.d_sinks, head), {0, 0, head});
  }

  CheckResult check;
  check.ok = true;
  check.checked = all > 0 ? checked / all : 1;
  double nearest = -1;
  for (const Gradient* gradient : {&d_q, &d_k, &d_v, &d_sinks}) {
    check.worst_block_ratio = std::max(check.worst_block_ratio, gradient->ratio);
    const DType dtype = gradient == &d_sinks ? DType::float32 : p.dtype;
    const double allowed = allowed_frobenius(dtype, gradient->exact, gradient->plain, gradient->noise);
    const double error = std::sqrt(gradient->error), size = std::sqrt(gradient->exact);
    if (size > 0 && error / allowed > nearest) {
      nearest = error / allowed;
      check.frobenius = error / size;
      check.bound = allowed / size;
    }
    if (!check.ok) continue;
    if (gradient->wrong > 0) {
      check.ok = false;
      check.block = gradient->first_wrong.b;
      check.row = gradient->first_wrong.query;
      check.sentence = fmt::format("{} of sequence {}, row {}, head {}: {}; {} rows of it are wrong", gradient->name,
                                   check.block, check.row, gradient->first_wrong.head, gradient->fault,
                                   gradient->wrong);
    } else if (error > allowed) {
      check.ok = false;
      check.sentence = fmt::format("the Frobenius error of {} is {:.3g}, accepted is {:.3g}", gradient->name, error,
                                   allowed);
    }
  }
  if (check.ok) {
    check.sentence = fmt::format("the gradients are right: worst ratio {:.3g}, relative Frobenius error {:.3g} within {:.3g}",
                                 check.worst_block_ratio, check.frobenius, check.bound);
  }
  return check;
}

}  // namespace triage::verdict
