// The sm80 family's attention rows: cp.async, ldmatrix, mma.sync.
#pragma once

#include <span>

#include "registry/attention_kernel.h"

namespace triage {

/// In order of preference. `can_run` and `workspace_bytes` are host code that every build holds; `launch` is nullptr
/// where TRIAGE_HAS_SM80 is 0.
std::span<const AttentionKernel> sm80_attention_kernels();
std::span<const AttentionBackwardKernel> sm80_attention_backward_kernels();

}  // namespace triage
