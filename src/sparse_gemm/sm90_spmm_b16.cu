// spmm for blocks of 16 on 9.0a; the kernels are sm90_small_blocks.h and, for few columns, sm90_few_columns.h.
#include "sparse_gemm/sm90_small_launch.h"

namespace triage::sm90 {

template <>
void launch_spmm<16>(const SparseGemmCall& call) {
  launch_small_blocks_of_type<false, 16>(call);
}

}  // namespace triage::sm90
