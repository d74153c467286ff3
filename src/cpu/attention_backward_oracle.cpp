#include "cpu/attention_backward_oracle.h"

#include <algorithm>
#include <cmath>

#include "cpu/attention_kernels.h"

namespace triage {

namespace {

std::int64_t start_of(const std::int32_t* cu_seqlens, std::int64_t b) {
  return cu_seqlens == nullptr ? 0 : cu_seqlens[b];
}

std::vector<std::int64_t> first_rows(const std::int32_t* cu_seqlens, std::int64_t batch, std::int64_t length,
                                     std::int64_t heads) {
  std::vector<std::int64_t> first{0};
  for (std::int64_t b = 0; b < batch; ++b)
    first.push_back(first.back() + (cu_seqlens == nullptr ? length : cu_seqlens[b + 1] - cu_seqlens[b]) * heads);
  return first;
}

AttentionRow row_at(const std::vector<std::int64_t>& first, std::int64_t index, std::int64_t heads) {
  AttentionRow row;
  row.b = std::upper_bound(first.begin(), first.end(), index) - first.begin() - 1;
  const std::int64_t inside = index - first[static_cast<std::size_t>(row.b)];
  row.query = inside / heads;
  row.head = inside % heads;
  return row;
}

std::int64_t offset_of(const AttentionTensor& tensor, const std::int32_t* cu_seqlens, const AttentionRow& row) {
  return row.b * tensor.batch_stride + (start_of(cu_seqlens, row.b) + row.query) * tensor.sequence_stride +
         row.head * tensor.head_stride;
}

}  // namespace

AttentionBackwardOracle::AttentionBackwardOracle(const AttentionBackwardCall& call) : call_(call) {
  const AttentionCall& forward = call.forward;
  const AttentionProblem& p = forward.problem;
  first_query_ = first_rows(forward.cu_seqlens_q, p.batch, p.seqlen_q, p.heads);
  first_key_ = first_rows(forward.cu_seqlens_k, p.batch, p.seqlen_k, p.kv_heads);
  delta_.resize(static_cast<std::size_t>(query_rows()));
  for (std::int64_t i = 0; i < query_rows(); ++i)
    cpu::runnable_attention().oracle_delta(call_, query_row(i), &delta_[static_cast<std::size_t>(i)]);
}

AttentionRow AttentionBackwardOracle::query_row(std::int64_t index) const {
  return row_at(first_query_, index, call_.forward.problem.heads);
}
AttentionRow AttentionBackwardOracle::key_row(std::int64_t index) const {
  return row_at(first_key_, index, call_.forward.problem.kv_heads);
}

void AttentionBackwardOracle::compute_query(const AttentionRow& row, AttentionGradientRow* d_q) const {
  cpu::runnable_attention().oracle_query(call_, delta_.data() + first_query_[static_cast<std::size_t>(row.b)], row,
                                         d_q);
}
void AttentionBackwardOracle::compute_key(const AttentionRow& row, AttentionGradientRow* d_k,
                                          AttentionGradientRow* d_v) const {
  cpu::runnable_attention().oracle_key(call_, delta_.data() + first_query_[static_cast<std::size_t>(row.b)], row, d_k,
                                       d_v);
}

AttentionSinkGradient AttentionBackwardOracle::compute_sink(std::int64_t head) const {
  const AttentionCall& forward = call_.forward;
  const double unit = forward.problem.dtype == DType::float64 ? 0x1p-53 : 0x1p-24;
  const double sink = forward.sinks[head], walk = 4 + std::sqrt(forward.problem.head_dim_v) / 2;
  long double exact = 0;
  double plain = 0, noise = 0, squares = 0;
  for (std::int64_t i = head; i < query_rows(); i += forward.problem.heads) {
    const AttentionRow row = query_row(i);
    const double lse = forward.lse[row.b * forward.lse_batch_stride + head * forward.lse_head_stride +
                                   start_of(forward.cu_seqlens_q, row.b) + row.query];
    if (lse == -HUGE_VAL) continue;
    const AttentionDelta& delta = delta_[static_cast<std::size_t>(i)];
    const long double weight = std::exp(static_cast<long double>(sink) - static_cast<long double>(lse));
    const double w = static_cast<double>(weight), term = std::fabs(w * delta.plain);
    exact -= weight * delta.exact;
    plain -= static_cast<double>(static_cast<float>(w)) * delta.plain;
    const double error = unit * ((8 + std::fabs(lse) + std::fabs(sink)) * term + walk * w * delta.size);
    noise += error * error;
    squares += term * term;
  }
  // The sum itself: fp32 partial sums of terms of either sign.
  const double sum = 0x1p-24 * (std::fabs(static_cast<double>(exact)) + 4 * std::sqrt(squares));
  return {static_cast<double>(exact), static_cast<double>(static_cast<float>(plain)), std::sqrt(noise) + sum};
}

std::int64_t AttentionBackwardOracle::query_offset(const AttentionTensor& gradient, const AttentionRow& row) const {
  return offset_of(gradient, call_.forward.cu_seqlens_q, row);
}
std::int64_t AttentionBackwardOracle::key_offset(const AttentionTensor& gradient, const AttentionRow& row) const {
  return offset_of(gradient, call_.forward.cu_seqlens_k, row);
}

}  // namespace triage
