// linear for blocks of 64 on 9.0a; the kernels are sm90_large_blocks.h and, for few tokens, sm90_few_columns.h.
#include "sparse_gemm/sm90_large_launch.h"

namespace triage::sm90 {

template <>
void launch_linear<64>(const SparseGemmCall& call) {
  launch_large_blocks_of_type<true, 64>(call);
}

}  // namespace triage::sm90
