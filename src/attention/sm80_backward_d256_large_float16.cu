// Attention backward by mma.sync for head_dim up to 256 in float16, on 8.0, 9.0 and 10.0.
#include "attention/sm80_backward_launch.h"

namespace triage::attention::sm80 {

template void launch_backward_shape<BackwardShape::large, 256, DType::float16>(const AttentionBackwardCall& call,
                                                                         const BackwardPlan& plan);

}  // namespace triage::attention::sm80
