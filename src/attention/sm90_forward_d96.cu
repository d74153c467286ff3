// Attention forward on 9.0a for head_dim 72 to 96.
#include "attention/sm90_launch.h"
#include "attention/sm90_rows.h"

namespace triage::attention::sm90 {

void launch_d96(const AttentionCall& call) {
  if (call.problem.dtype == DType::float16) {
    launch_forward<ForwardConfig<__half, 96, 96, 3, 64, 4, 2, false>>(call);
  } else {
    launch_forward<ForwardConfig<__nv_bfloat16, 96, 96, 3, 64, 4, 2, false>>(call);
  }
}

}  // namespace triage::attention::sm90
