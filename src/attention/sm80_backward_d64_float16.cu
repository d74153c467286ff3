// Attention backward by mma.sync for head_dim up to 64 in float16.
#include "attention/sm80_backward_launch.h"

namespace triage::attention::sm80 {

template void launch_backward_shape<BackwardShape::small, 64, DType::float16>(const AttentionBackwardCall& call,
                                                                         const BackwardPlan& plan);

}  // namespace triage::attention::sm80
