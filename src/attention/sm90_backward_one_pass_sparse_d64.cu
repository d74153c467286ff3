// Attention backward on 9.0a in one pass with a block-sparse mask, for head_dim up to 64.
#include "attention/sm90_backward_kernels.h"
#include "attention/sm90_backward_launch.h"

namespace triage::attention::sm90 {

void launch_one_pass_sparse_d64(const AttentionBackwardCall& call) { launch_one_pass_backward<64, 1, 1, true>(call); }

}  // namespace triage::attention::sm90
