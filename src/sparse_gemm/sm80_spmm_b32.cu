// spmm at block 32; the kernels are sm80_gemm.h and, for few columns, sm80_narrow.h.
#include "sparse_gemm/sm80_gemm_launch.h"

namespace triage::sm80 {

template <>
void launch_spmm<32>(const SparseGemmCall& call) {
  launch_gemm_of_type<32, false>(call);
}

}  // namespace triage::sm80
