// Attention forward on 9.0a for head_dim 136 to 192 with values of up to 128.
#include "attention/sm90_launch.h"
#include "attention/sm90_rows.h"

namespace triage::attention::sm90 {

void launch_d192_v128(const AttentionCall& call) {
  if (call.problem.dtype == DType::float16) {
    launch_forward<ForwardConfig<__half, 192, 128, 3, 64, 3, 1, false>>(call);
  } else {
    launch_forward<ForwardConfig<__nv_bfloat16, 192, 128, 3, 64, 3, 1, false>>(call);
  }
}

}  // namespace triage::attention::sm90
