// Attention forward on 9.0a for head_dim 104 to 128; block-sparse from 72 on.
#include "attention/sm90_launch.h"
#include "attention/sm90_rows.h"
#include "attention/sm90_sparse_launch.h"

namespace triage::attention::sm90 {

void launch_d128(const AttentionCall& call) {
  if (call.problem.dtype == DType::float16) {
    launch_forward<ForwardConfig<__half, 128, 128, 3, 64, 4, 2, false>>(call);
  } else {
    launch_forward<ForwardConfig<__nv_bfloat16, 128, 128, 3, 64, 4, 2, false>>(call);
  }
}

namespace {

template <typename Element>
void launch_sparse(const AttentionCall& call) {
  const AttentionProblem& problem = call.problem;
  if (problem.has_elements) {
    launch_sparse_forward<SparseForwardConfig<Element, 128, 3, 64, 4, false, true>>(call);
  } else if (problem.pattern_block_q == 128 && problem.pattern_block_k == 128) {  // a tile is a row of blocks
    launch_sparse_forward<SparseForwardConfig<Element, 128, 2, 128, 2, true, false>>(call);
  } else {
    launch_sparse_forward<SparseForwardConfig<Element, 128, 3, 64, 4, false, false>>(call);
  }
}

}  // namespace

void launch_sparse_d128(const AttentionCall& call) {
  call.problem.dtype == DType::float16 ? launch_sparse<__half>(call) : launch_sparse<__nv_bfloat16>(call);
}

}  // namespace triage::attention::sm90
