// When are attention's gradients correct? The one rule that the tests and the verdict judge by.
//
// Each row of d_q, d_k and d_v is judged by itself, as a row of O is (attention_correctness.h): with E the largest
// |result - exact| of the row and E_plain that of a plain computation in the same precision, it is correct if
//
//     E <= 2 * E_plain + S,     S = 2 ulp(largest |exact| of the row) + 4 * noise.
//
// The noise covers rows in which the plain computation is right by luck: the root of the sum over the row's pairs of
// (error of P or dS times the other operand)^2, where P and dS err by their rounding to the dtype (w / sqrt(3) of
// themselves), by what their exponential's argument errs by (u times 4 + |lse| + sqrt(head_dim) / 2 times the logit's
// partial sums), and dS besides by what dP and delta err by (u P (4 + sqrt(head_dim_v) / 2) times their partial sums).
// d_sinks, a float32 for each head, is judged in the same way. Over all rows of a gradient the relative Frobenius error
// stays within the dtype's unit roundoff (or twice that of the plain computation, if more) plus the noise. A query that
// attends nothing has d_q = 0 exactly; a key that nothing attends has d_k = d_v = 0.
#pragma once

#include "cpu/attention_backward_oracle.h"
#include "verdict/attention_correctness.h"

namespace triage::verdict {

/// Gradients in host memory; nullptr: not wanted. Laid out as d_q, d_k and d_v of the call say.
struct AttentionGradients {
  const void *d_q = nullptr, *d_k = nullptr, *d_v = nullptr;
  const float* d_sinks = nullptr;
};

/// In the result, `block` is the sequence and `row` the query or key of the first offending element; the sentence names
/// the gradient and the head as well. `frobenius` and `bound` are those of the gradient that comes nearest to its bound.
CheckResult check_attention_gradients(const AttentionBackwardCall& call, const AttentionGradients& got,
                                      const AttentionCheckOptions& options = {});

}  // namespace triage::verdict
