// When is the result of attention correct? The one rule that the tests and the verdict judge by.
//
// Each row of O (a query of a head) is judged by itself: in causal attention rows differ in size by the root of the
// number of their keys, and one bound for all of them would hide errors in the long ones. The oracle gives the exact
// row, and that of a plain computation in the same precision: fp32 logits, exponentials and sums (float64: double), for
// fp16 and bf16 weights rounded to the dtype before they meet the values, the row rounded to the dtype. With E the
// largest |result - exact| of the row and E_plain that of the plain computation, the row is correct if
//
//     E <= 2 * E_plain + S,     S = 2 ulp(largest |exact| of the row) + 4 (w / sqrt(3) + u * L) * sqrt(Q).
//
// ulp is the dtype's. The last term covers rows in which the plain computation is right by luck. It is a bound on two
// noises. Rounded weights: w is the unit roundoff of the weights (the dtype's; float32 and float64: that of the sums),
// Q the largest over the row's columns of the sum over the keys of (weight * value)^2. And rounded logits, whose errors
// are relative errors of weights: u is the unit roundoff of sums (2^-24; float64: 2^-53), and a sum of head_dim
// products in any order is off by about u sqrt(head_dim) / 2 times its partial sums, so L = 4 + sqrt(head_dim) / 2 *
// (largest |logit|
// + the root of the sum of the squares of its products); the 4 is for an exponential and its argument.
//
// lse is float32: |lse - exact| <= 2 |plain - exact| + 2 ulp(lse) + 4 u (L + |lse|). Besides: over all rows the
// relative Frobenius error stays within the dtype's unit roundoff (or twice that of the plain computation, if more)
// plus the same noise; NaN and infinities stand where they must, and nowhere else; a query that attends nothing gives
// exact zeros and lse = -inf (with a sink: the sink).
#pragma once

#include <cstdint>

#include "cpu/attention_oracle.h"
#include "verdict/correctness.h"

namespace triage::verdict {

struct AttentionCheckOptions {
  /// What the oracle may spend, in multiply-adds; where all rows would take more, a random choice of rows is checked.
  double operations = 1e18;
  std::uint64_t seed = 0;
};

/// Judges `o` and `lse` (may be nullptr), laid out as `call` says, all in host memory. In the result, `block` is the
/// sequence, `row` the query and `column` the column of the first offending element; the sentence names the head as
/// well.
CheckResult check_attention_result(const AttentionCall& call, const void* o, const float* lse,
                                   const AttentionCheckOptions& options = {});

}  // namespace triage::verdict
