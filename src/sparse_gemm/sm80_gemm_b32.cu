// spmm and linear at block 32; the kernel is sm80_gemm.h.
#include "sparse_gemm/sm80_gemm_launch.h"

namespace triage::sm80 {

template <>
void launch_spmm<32>(const SparseGemmCall& call) {
  launch_gemm_of_dtype<32, false>(call);
}

template <>
void launch_linear<32>(const SparseGemmCall& call) {
  launch_gemm_of_dtype<32, true>(call);
}

}  // namespace triage::sm80
