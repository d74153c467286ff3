// Attention forward on 9.0a for head_dim 136 to 192.
#include "attention/sm90_launch.h"
#include "attention/sm90_rows.h"

namespace triage::attention::sm90 {

void launch_d192(const AttentionCall& call) {
  if (call.problem.dtype == DType::float16) {
    launch_forward<ForwardConfig<__half, 192, 192, 2, 96, 2, 1, true>>(call);
  } else {
    launch_forward<ForwardConfig<__nv_bfloat16, 192, 192, 2, 96, 2, 1, true>>(call);
  }
}

}  // namespace triage::attention::sm90
