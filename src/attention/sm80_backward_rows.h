// The launch functions behind the sm80 family's row of attention's backward. Host code.
#pragma once

#include "attention/sm80_backward_tuning.h"
#include "registry/attention_kernel.h"

namespace triage::attention::sm80 {

/// Enqueue the kernels of one shape for head_dim as padded, after prepare_backward.
template <BackwardShape kShape, int kHeadDim, DType kDType>
void launch_backward_shape(const AttentionBackwardCall& call, const BackwardPlan& plan);

/// The whole call.
void launch_backward(const AttentionBackwardCall& call);

}  // namespace triage::attention::sm80
