// The oracle of attention: what a row of O and its lse should be, computed straight from the definition, key by key. It
// shares no mask, no tile and no address arithmetic with the kernels, so that it can judge the CPU backend too.
#pragma once

#include <cstdint>
#include <vector>

#include "registry/attention_kernel.h"

namespace triage {

/// One row of O: query `query` of sequence `b`, query head `head`.
struct AttentionRow {
  std::int64_t b = 0, query = 0, head = 0;
};

/// exact: sums in double precision (float64: long double), not rounded to the dtype. plain: the same as a plain
/// computation in the dtype's own way: logits, exponentials and sums in float (float64: double), for 16-bit dtypes
/// weights rounded to the dtype before they meet the values, as tensor cores want them; the result rounded to the
/// dtype.
struct AttentionRowResult {
  std::int64_t keys = 0;  ///< attended
  double exact[kMaxHeadDim], plain[kMaxHeadDim];
  double exact_lse = 0, plain_lse = 0;
  /// What can be said beforehand about rounding errors, see verdict/attention_correctness.h: the largest of the
  /// row's columns' roots of the sum over the keys of (weight * value)^2; and the largest |logit| + scale * sqrt(sum of
  /// the squares of its products), before the softcap.
  double weighted_root = 0, logit_size = 0;
  double value_size = 0;  ///< the largest |value| attended
};

/// The rows of `call`, all of whose pointers are in host memory. Windows as the user wrote them are fine: nothing here
/// relies on limits that cannot be met being -1.
class AttentionOracle {
 public:
  explicit AttentionOracle(const AttentionCall& call);

  const AttentionCall& call() const { return call_; }
  /// Every row of every sequence, by sequence, query and head.
  std::int64_t row_count() const { return first_row_.back(); }
  AttentionRow row(std::int64_t index) const;
  void compute(const AttentionRow& row, AttentionRowResult* result) const;

  /// Where the row lies, in elements from the start of O and of lse.
  std::int64_t output_offset(const AttentionRow& row) const;
  std::int64_t lse_offset(const AttentionRow& row) const;

 private:
  AttentionCall call_;
  std::vector<std::int64_t> first_row_;  // [batch + 1]
};

}  // namespace triage
