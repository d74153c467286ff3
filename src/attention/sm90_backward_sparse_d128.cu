// Block-sparse attention backward on 9.0a for head_dim up to 128.
#include "attention/sm90_backward_kernels.h"
#include "attention/sm90_backward_launch.h"

namespace triage::attention::sm90 {

void launch_backward_sparse_d128(const AttentionBackwardCall& call) { launch_backward<128, 64, 64, 3, true>(call); }

}  // namespace triage::attention::sm90
