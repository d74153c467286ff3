// Attention backward on 9.0a for head_dim up to 64.
#include "attention/sm90_backward_kernels.h"
#include "attention/sm90_backward_launch.h"

namespace triage::attention::sm90 {

void launch_backward_d64(const AttentionBackwardCall& call) { launch_backward<64, 128, 128, 3, false>(call); }

}  // namespace triage::attention::sm90
