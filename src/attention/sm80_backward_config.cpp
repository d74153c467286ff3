// The sm80 family's rows of attention's backward: what they take, with how much workspace.
#include "attention/sm80_kernels.h"

namespace triage {

std::span<const AttentionBackwardKernel> sm80_attention_backward_kernels() { return {}; }

}  // namespace triage
