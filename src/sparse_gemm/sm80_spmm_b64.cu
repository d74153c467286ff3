// spmm at block 64; the kernels are sm80_gemm.h and, for few columns, sm80_narrow.h.
#include "sparse_gemm/sm80_gemm_launch.h"

namespace triage::sm80 {

template <>
void launch_spmm<64>(const SparseGemmCall& call) {
  launch_gemm_of_type<64, false>(call);
}

}  // namespace triage::sm80
