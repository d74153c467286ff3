// The launch functions behind the sm90 family's rows. Host code.
#pragma once

#include "registry/kernel.h"

namespace triage::sm90 {

void launch_spmm_small(const SparseGemmCall& call);    ///< blocks of 16 and 32
void launch_linear_small(const SparseGemmCall& call);
void launch_spmm_large(const SparseGemmCall& call);    ///< blocks of 64 and 128
void launch_linear_large(const SparseGemmCall& call);
void launch_sddmm(const SparseGemmCall& call);
void prepack(const SparseGemmCall& call, void* packed);

}  // namespace triage::sm90
