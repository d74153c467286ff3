// The special function unit's approximations that approximate.h lacks.
#pragma once

#include "ptx/approximate.h"

namespace triage::ptx {

/// log2(x) with 1 ulp or an absolute error of 2^-22. log2(0) is -inf.
__device__ __forceinline__ float log2_approx(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace triage::ptx
