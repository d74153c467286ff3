// sddmm at block 64; the kernel is sm80_sddmm.h.
#include "sparse_gemm/sm80_sddmm_launch.h"

namespace triage::sm80 {

template <>
void launch_sddmm<64>(const SparseGemmCall& call) {
  launch_sddmm_of_type<64>(call);
}

}  // namespace triage::sm80
