// The sm80 family's registry rows: cp.async, ldmatrix, mma.sync.
#pragma once

#include <span>

#include "registry/kernel.h"

namespace triage {

/// One row per operation and block size, in order of preference. `can_run`, `schedule` and `workspace_bytes` are host
/// code that every build holds; `launch` and `prepack` are nullptr where TRIAGE_HAS_SM80 is 0.
std::span<const SparseGemmKernel> sm80_sparse_gemm_kernels();

}  // namespace triage
