// The CPU family's registry rows.
#pragma once

#include <span>

#include "registry/kernel.h"

namespace triage {

/// One row per operation, any block size; in order of preference.
std::span<const SparseGemmKernel> cpu_sparse_gemm_kernels();

}  // namespace triage
