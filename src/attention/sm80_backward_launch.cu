// The sm80 family's attention backward from a call to its kernels.
#include "attention/sm80_backward_rows.h"

namespace triage::attention::sm80 {

namespace {

template <DType kDType>
void launch_of_type(const AttentionBackwardCall& call, const BackwardPlan& plan) {
  const bool large = plan.shape == BackwardShape::large;
  if (plan.shape == BackwardShape::sparse) {
    plan.head_dim == 64    ? launch_backward_shape<BackwardShape::sparse, 64, kDType>(call, plan)
    : plan.head_dim == 128 ? launch_backward_shape<BackwardShape::sparse, 128, kDType>(call, plan)
                           : launch_backward_shape<BackwardShape::sparse, 256, kDType>(call, plan);
  } else if (plan.head_dim == 64) {
    launch_backward_shape<BackwardShape::small, 64, kDType>(call, plan);
  } else if (plan.head_dim == 128) {
    large ? launch_backward_shape<BackwardShape::large, 128, kDType>(call, plan)
          : launch_backward_shape<BackwardShape::small, 128, kDType>(call, plan);
  } else {
    large ? launch_backward_shape<BackwardShape::large, 256, kDType>(call, plan)
          : launch_backward_shape<BackwardShape::small, 256, kDType>(call, plan);
  }
}

}  // namespace

void launch_backward(const AttentionBackwardCall& call) {
  const BackwardPlan plan = plan_backward(call.forward.problem, *call.forward.device);
  PrepareBackward prepare;
  prepare.rows = rows_in(call.forward.workspace.data, plan);
  prepare.zeros = turns_in(call.forward.workspace.data, plan);
  prepare.zero_bytes = plan.turns_bytes + (call.deterministic ? 0 : plan.sums_bytes);
  prepare_backward(call, prepare);
  call.forward.problem.dtype == DType::float16 ? launch_of_type<DType::float16>(call, plan)
                                               : launch_of_type<DType::bfloat16>(call, plan);
}

}  // namespace triage::attention::sm80
