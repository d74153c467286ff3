// linear at block 128; the kernels are sm80_gemm.h and, for few tokens, sm80_narrow.h.
#include "sparse_gemm/sm80_gemm_launch.h"

namespace triage::sm80 {

template <>
void launch_linear<128>(const SparseGemmCall& call) {
  launch_gemm_of_type<128, true>(call);
}

}  // namespace triage::sm80
