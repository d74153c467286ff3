// The sm90 family's registry rows: TMA, mbarrier, wgmma (9.0 only).
#pragma once

#include <span>

#include "registry/kernel.h"

namespace triage {

/// One row per operation and block size, in order of preference. `can_run`, `schedule` and `workspace_bytes` are host
/// code that every build holds; `launch` and `prepack` are nullptr where TRIAGE_HAS_SM90 is 0.
std::span<const SparseGemmKernel> sm90_sparse_gemm_kernels();

}  // namespace triage
