// Attention backward on 9.0a for head_dim up to 128.
#include "attention/sm90_backward_kernels.h"
#include "attention/sm90_backward_launch.h"

namespace triage::attention::sm90 {

void launch_backward_d128(const AttentionBackwardCall& call) { launch_backward<128, 64, 64, 3, false>(call); }

}  // namespace triage::attention::sm90
