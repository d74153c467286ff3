// The oracle of attention's backward: what rows of d_q, d_k, d_v and d_sinks should be, pair by pair from the formulas
// of attention.h. O and lse are inputs like any other. It shares no mask, no tile and no address arithmetic with the
// kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/attention_oracle.h"
#include "registry/attention_kernel.h"

namespace triage {

/// exact: sums in double precision (float64: long double), not rounded to the dtype. plain: a plain computation in the
/// dtype's own way: logits, exponentials and sums in float (float64: double); for 16-bit dtypes P and dS rounded to the
/// dtype before they meet the other operand, as tensor cores want them; the result rounded to the dtype.
struct AttentionGradientRow {
  std::int64_t pairs = 0;  ///< of a query and a key that attend each other
  double exact[kMaxHeadDim] = {}, plain[kMaxHeadDim] = {};
  /// What rounding alone may do, whatever the order of sums: the largest over the columns of the root of the sum over
  /// the pairs of (error of P or dS times the other operand)^2; see verdict/attention_backward_correctness.h.
  double noise = 0;
};

struct AttentionSinkGradient {
  double exact = 0, plain = 0, noise = 0;
};

/// rowsum(d_o * o) - d_lse of a query row.
struct AttentionDelta {
  long double exact = 0;
  double plain = 0;
  double size = 0;  ///< |delta| and the root of the sum of its squares: what its partial sums are like
};

/// The gradients of `call`, all of whose pointers are in host memory; its outputs are not read.
class AttentionBackwardOracle {
 public:
  explicit AttentionBackwardOracle(const AttentionBackwardCall& call);

  const AttentionBackwardCall& call() const { return call_; }
  /// Rows of d_q by sequence, query and head; rows of d_k and d_v by sequence, key (in the place of the query) and head
  /// of K and V.
  std::int64_t query_rows() const { return first_query_.back(); }
  std::int64_t key_rows() const { return first_key_.back(); }
  AttentionRow query_row(std::int64_t index) const;
  AttentionRow key_row(std::int64_t index) const;

  void compute_query(const AttentionRow& row, AttentionGradientRow* d_q) const;
  void compute_key(const AttentionRow& row, AttentionGradientRow* d_k, AttentionGradientRow* d_v) const;
  AttentionSinkGradient compute_sink(std::int64_t head) const;

  /// Where a row lies, in elements from the start of `gradient`.
  std::int64_t query_offset(const AttentionTensor& gradient, const AttentionRow& row) const;
  std::int64_t key_offset(const AttentionTensor& gradient, const AttentionRow& row) const;

 private:
  AttentionBackwardCall call_;
  std::vector<std::int64_t> first_query_, first_key_;  // [batch + 1]
  std::vector<AttentionDelta> delta_;                  // as query rows are counted
};

}  // namespace triage
