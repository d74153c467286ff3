// sddmm at block 32; the kernel is sm80_sddmm.h.
#include "sparse_gemm/sm80_sddmm_launch.h"

namespace triage::sm80 {

template <>
void launch_sddmm<32>(const SparseGemmCall& call) {
  launch_sddmm_of_type<32>(call);
}

}  // namespace triage::sm80
