// The launch functions behind the sm90 family's rows. Host code.
#pragma once

#include "registry/kernel.h"

namespace triage::sm90 {

template <int kBlock>
void launch_spmm(const SparseGemmCall& call);
template <int kBlock>
void launch_linear(const SparseGemmCall& call);
void launch_sddmm(const SparseGemmCall& call);
void prepack(const SparseGemmCall& call, void* packed);

// Defined in sm90_spmm_b*.cu and sm90_linear_b*.cu.
template <>
void launch_spmm<16>(const SparseGemmCall& call);
template <>
void launch_spmm<32>(const SparseGemmCall& call);
template <>
void launch_spmm<64>(const SparseGemmCall& call);
template <>
void launch_spmm<128>(const SparseGemmCall& call);
template <>
void launch_linear<16>(const SparseGemmCall& call);
template <>
void launch_linear<32>(const SparseGemmCall& call);
template <>
void launch_linear<64>(const SparseGemmCall& call);
template <>
void launch_linear<128>(const SparseGemmCall& call);

}  // namespace triage::sm90
