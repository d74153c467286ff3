// The sm90 family's rows of attention's backward: what they take, with how much workspace.
#include "attention/sm90_kernels.h"

namespace triage {

std::span<const AttentionBackwardKernel> sm90_attention_backward_kernels() { return {}; }

}  // namespace triage
