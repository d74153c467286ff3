// Attention backward by mma.sync for head_dim up to 256 with a block-sparse mask.
#include "attention/sm80_backward_launch.h"

namespace triage::attention::sm80 {

template void launch_backward_shape<BackwardShape::sparse, 256, DType::float16>(const AttentionBackwardCall& call,
                                                                                const BackwardPlan& plan);
template void launch_backward_shape<BackwardShape::sparse, 256, DType::bfloat16>(const AttentionBackwardCall& call,
                                                                                 const BackwardPlan& plan);

}  // namespace triage::attention::sm80
