// Attention forward by mma.sync for head_dim up to 256 with a block-sparse mask: tiles of 64 rows.
#include "attention/sm80_launch.h"

namespace triage::attention::sm80 {

namespace {

template <typename Element>
using Config = ForwardConfig<Element, 256, 4, 1, 1, 32, 2, 2, true>;

}  // namespace

template <>
void launch_shape<Shape::sparse, 256>(const AttentionCall& call, const Plan& plan) {
  launch_of_type<Config>(call, plan);
}

}  // namespace triage::attention::sm80
