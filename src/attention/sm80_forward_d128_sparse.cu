// Attention forward by mma.sync for head_dim up to 128 with a block-sparse mask.
#include "attention/sm80_launch.h"

namespace triage::attention::sm80 {

namespace {

template <typename Element>
using Narrow = ForwardConfig<Element, 128, 4, 1, 1, 64, 2, 2, true>;
template <typename Element>
using Wide = ForwardConfig<Element, 128, 4, 1, 2, 64, 2, 2, true>;

}  // namespace

template <>
void launch_shape<Shape::sparse, 128>(const AttentionCall& call, const Plan& plan) {
  launch_of_type<Narrow>(call, plan);
}

template <>
void launch_shape<Shape::sparse_wide, 128>(const AttentionCall& call, const Plan& plan) {
  launch_of_type<Wide>(call, plan);
}

}  // namespace triage::attention::sm80
