// Attention forward by mma.sync for head_dim up to 64: tiles of 128 rows.
#include "attention/sm80_launch.h"

namespace triage::attention::sm80 {

namespace {

template <typename Element>
using Config = ForwardConfig<Element, 64, 4, 1, 2, 128, 2, 2>;

}  // namespace

template <>
void launch_shape<Shape::wide, 64>(const AttentionCall& call, const Plan& plan) {
  launch_of_type<Config>(call, plan);
}

}  // namespace triage::attention::sm80
