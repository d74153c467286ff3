// Block-sparse attention forward on 9.0a for head_dim up to 64.
#include "attention/sm90_rows.h"
#include "attention/sm90_sparse_launch.h"

namespace triage::attention::sm90 {

namespace {

template <typename Element>
void launch(const AttentionCall& call) {
  if (call.problem.has_elements) {
    launch_sparse_forward<SparseForwardConfig<Element, 64, 4, 64, 6, false, true>>(call);
  } else {
    launch_sparse_forward<SparseForwardConfig<Element, 64, 4, 64, 6, false, false>>(call);
  }
}

}  // namespace

void launch_sparse_d64(const AttentionCall& call) {
  call.problem.dtype == DType::float16 ? launch<__half>(call) : launch<__nv_bfloat16>(call);
}

}  // namespace triage::attention::sm90
