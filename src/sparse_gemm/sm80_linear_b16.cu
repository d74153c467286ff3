// linear at block 16; the kernels are sm80_gemm.h and, for few tokens, sm80_narrow.h.
#include "sparse_gemm/sm80_gemm_launch.h"

namespace triage::sm80 {

template <>
void launch_linear<16>(const SparseGemmCall& call) {
  launch_gemm_of_type<16, true>(call);
}

}  // namespace triage::sm80
