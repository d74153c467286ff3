// Where a padded row (backward_rows.h) comes from. Device code.
#pragma once

#include "attention/backward_rows.h"

namespace triage::attention {

/// Sequence and query of a padded row; false if it is padding.
__device__ __forceinline__ bool find_row(const Sequences& s, int block, std::int64_t row, int& batch, int& query) {
  std::int64_t start;
  if (s.cu_seqlens_q == nullptr) {
    const std::int64_t stride = padded_start(nullptr, s.seqlen_q, 1, block);
    batch = static_cast<int>(row / stride);
    start = batch * stride;
  } else {
    int low = 0, high = s.batch;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (padded_start(s.cu_seqlens_q, 0, middle, block) <= row ? low : high) = middle;
    }
    batch = low;
    start = padded_start(s.cu_seqlens_q, 0, low, block);
  }
  query = static_cast<int>(row - start);
  return batch < s.batch && query < query_count(s, batch);
}

}  // namespace triage::attention
