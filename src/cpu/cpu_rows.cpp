#include "cpu/cpu_kernels.h"

namespace triage {

std::span<const SparseGemmKernel> cpu_sparse_gemm_kernels() { return {}; }

}  // namespace triage
