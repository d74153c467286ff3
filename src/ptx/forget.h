// Tells the compiler that values do not matter any more.
#pragma once

namespace triage::ptx {

/// wgmma's wrapper names its accumulators as inputs even where they are only written (accumulate = false); after this,
/// what they held before need not be kept in registers until then. Costs no instruction.
template <int kCount>
__device__ __forceinline__ void forget(float (&x)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; i++) asm volatile("" : "=f"(x[i]));
}

}  // namespace triage::ptx
