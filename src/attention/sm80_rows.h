// The launch functions behind the sm80 family's attention row. Host code.
#pragma once

#include "attention/sm80_tuning.h"
#include "registry/attention_kernel.h"

namespace triage::attention::sm80 {

struct ForwardParams;

/// Enqueue the kernel of one shape for head_dim as padded.
template <Shape kShape, int kHeadDim>
void launch_shape(const AttentionCall& call, const Plan& plan);

/// Parameters of a call; its workspace holds the partial results if keys are split.
ForwardParams forward_params(const AttentionCall& call, const Plan& plan);

/// Adds up the splits.
void launch_combine(const AttentionCall& call, const ForwardParams& params);

/// The whole call.
void launch_forward(const AttentionCall& call);

}  // namespace triage::attention::sm80
