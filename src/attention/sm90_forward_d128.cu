// Attention forward on 9.0a for head_dim 104 to 128.
#include "attention/sm90_launch.h"
#include "attention/sm90_rows.h"

namespace triage::attention::sm90 {

namespace {

template <typename Element>
void launch(const AttentionCall& call) {
  const AttentionProblem& problem = call.problem;
  if (!problem.varlen_q && problem.window_right >= 0 && problem.seqlen_q < 2048) {
    launch_forward<ForwardConfig<Element, 128, 128, 2, 128, 2, 2, true>>(call);
  } else {
    launch_forward<ForwardConfig<Element, 128, 128, 3, 64, 4, 2, false>>(call);
  }
}

}  // namespace

void launch_d128(const AttentionCall& call) {
  call.problem.dtype == DType::float16 ? launch<__half>(call) : launch<__nv_bfloat16>(call);
}

}  // namespace triage::attention::sm90
