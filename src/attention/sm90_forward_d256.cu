// Attention forward on 9.0a for head_dim 200 to 256.
#include "attention/sm90_launch.h"
#include "attention/sm90_rows.h"

namespace triage::attention::sm90 {

void launch_d256(const AttentionCall& call) {
  if (call.problem.dtype == DType::float16) {
    launch_forward<ForwardConfig<__half, 256, 256, 2, 64, 2, 1, true>>(call);
  } else {
    launch_forward<ForwardConfig<__nv_bfloat16, 256, 256, 2, 64, 2, 1, true>>(call);
  }
}

}  // namespace triage::attention::sm90
