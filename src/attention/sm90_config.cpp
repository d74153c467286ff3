// The sm90 family's attention rows: none yet.
#include "attention/sm90_kernels.h"

namespace triage {

std::span<const AttentionKernel> sm90_attention_kernels() { return {}; }

}  // namespace triage
