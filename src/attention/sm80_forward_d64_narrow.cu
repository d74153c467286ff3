// Attention forward by mma.sync for head_dim up to 64: up to 16 rows, decoding.
#include "attention/sm80_launch.h"

namespace triage::attention::sm80 {

namespace {

template <typename Element>
using Config = ForwardConfig<Element, 64, 1, 4, 1, 128, 2, 3>;

}  // namespace

template <>
void launch_shape<Shape::narrow, 64>(const AttentionCall& call, const Plan& plan) {
  launch_of_type<Config>(call, plan);
}

}  // namespace triage::attention::sm80
