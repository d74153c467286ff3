// Attention backward on 9.0a in one pass, for head_dim up to 64.
#include "attention/sm90_backward_kernels.h"
#include "attention/sm90_backward_launch.h"

namespace triage::attention::sm90 {

void launch_one_pass_d64(const AttentionBackwardCall& call) { launch_one_pass_backward<64, 1, 2, false>(call); }

}  // namespace triage::attention::sm90
