// Attention forward on 9.0a for head_dim 104 to 128.
#include "attention/sm90_launch.h"
#include "attention/sm90_rows.h"

namespace triage::attention::sm90 {

void launch_d128(const AttentionCall& call) {
  if (call.problem.dtype == DType::float16) {
    launch_forward<ForwardConfig<__half, 128, 128, 3, 64, 4, 2, false>>(call);
  } else {
    launch_forward<ForwardConfig<__nv_bfloat16, 128, 128, 3, 64, 4, 2, false>>(call);
  }
}

}  // namespace triage::attention::sm90
