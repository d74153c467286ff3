// Attention forward on 9.0a for head_dim up to 64.
#include "attention/sm90_launch.h"
#include "attention/sm90_rows.h"
#include "attention/sm90_sparse_launch.h"

namespace triage::attention::sm90 {

namespace {

template <typename Element>
void launch(const AttentionCall& call) {
  const AttentionProblem& problem = call.problem;
  if (problem.window_left < 0 && problem.window_right < 0 && !problem.varlen_q && problem.seqlen_q >= 8192) {
    launch_forward<ForwardConfig<Element, 64, 64, 3, 128, 2, 2, true>>(call);
  } else {
    launch_forward<ForwardConfig<Element, 64, 64, 4, 64, 6, 2, false>>(call);
  }
}

template <typename Element>
void launch_sparse(const AttentionCall& call) {
  if (call.problem.has_elements) {
    launch_sparse_forward<SparseForwardConfig<Element, 64, 4, 64, 6, false, true>>(call);
  } else {
    launch_sparse_forward<SparseForwardConfig<Element, 64, 4, 64, 6, false, false>>(call);
  }
}

}  // namespace

void launch_sparse_d64(const AttentionCall& call) {
  call.problem.dtype == DType::float16 ? launch_sparse<__half>(call) : launch_sparse<__nv_bfloat16>(call);
}

void launch_d64(const AttentionCall& call) {
  call.problem.dtype == DType::float16 ? launch<__half>(call) : launch<__nv_bfloat16>(call);
}

}  // namespace triage::attention::sm90
