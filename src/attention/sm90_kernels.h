// The sm90 family's attention rows: TMA, mbarrier, wgmma (9.0 only).
#pragma once

#include <span>

#include "registry/attention_kernel.h"

namespace triage {

/// In order of preference. `can_run` and `workspace_bytes` are host code that every build holds; `launch` is nullptr
/// where TRIAGE_HAS_SM90 is 0.
std::span<const AttentionKernel> sm90_attention_kernels();
std::span<const AttentionBackwardKernel> sm90_attention_backward_kernels();

}  // namespace triage
