// The sm80 family's attention rows: none yet.
#include "attention/sm80_kernels.h"

namespace triage {

std::span<const AttentionKernel> sm80_attention_kernels() { return {}; }

}  // namespace triage
