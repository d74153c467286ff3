// The CPU family's attention rows.
#pragma once

#include <span>

#include "registry/attention_kernel.h"

namespace triage {

std::span<const AttentionKernel> cpu_attention_kernels();
std::span<const AttentionBackwardKernel> cpu_attention_backward_kernels();

}  // namespace triage
