// Attention backward by mma.sync for head_dim up to 128 in bfloat16, on 8.6, 8.9 and 12.0.
#include "attention/sm80_backward_launch.h"

namespace triage::attention::sm80 {

template void launch_backward_shape<BackwardShape::small, 128, DType::bfloat16>(const AttentionBackwardCall& call,
                                                                         const BackwardPlan& plan);

}  // namespace triage::attention::sm80
