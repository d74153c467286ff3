#include "cpu/attention_oracle.h"

#include <algorithm>

#include "cpu/attention_kernels.h"

namespace triage {

AttentionOracle::AttentionOracle(const AttentionCall& call) : call_(call) {
  first_row_.push_back(0);
  for (std::int64_t b = 0; b < call.problem.batch; ++b) {
    const std::int64_t length =
        call.cu_seqlens_q == nullptr ? call.problem.seqlen_q : call.cu_seqlens_q[b + 1] - call.cu_seqlens_q[b];
    first_row_.push_back(first_row_.back() + length * call.problem.heads);
  }
}

AttentionRow AttentionOracle::row(std::int64_t index) const {
  AttentionRow row;
  row.b = std::upper_bound(first_row_.begin(), first_row_.end(), index) - first_row_.begin() - 1;
  const std::int64_t inside = index - first_row_[static_cast<std::size_t>(row.b)];
  row.query = inside / call_.problem.heads;
  row.head = inside % call_.problem.heads;
  return row;
}

void AttentionOracle::compute(const AttentionRow& row, AttentionRowResult* result) const {
  cpu::runnable_attention().oracle_row(call_, row, result);
}

std::int64_t AttentionOracle::output_offset(const AttentionRow& row) const {
  const std::int64_t start = call_.cu_seqlens_q == nullptr ? 0 : call_.cu_seqlens_q[row.b];
  return row.b * call_.o.batch_stride + (start + row.query) * call_.o.sequence_stride + row.head * call_.o.head_stride;
}

std::int64_t AttentionOracle::lse_offset(const AttentionRow& row) const {
  const std::int64_t start = call_.cu_seqlens_q == nullptr ? 0 : call_.cu_seqlens_q[row.b];
  return row.b * call_.lse_batch_stride + row.head * call_.lse_head_stride + start + row.query;
}

}  // namespace triage
