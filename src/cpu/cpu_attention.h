// The CPU family's attention rows.
#pragma once

#include <span>

#include "registry/attention_kernel.h"

namespace triage {

std::span<const AttentionKernel> cpu_attention_kernels();

}  // namespace triage
