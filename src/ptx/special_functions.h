// The special function unit's approximations, which CUDA C++ has only under -use_fast_math.
#pragma once

namespace triage::ptx {

/// 2^x with 2 ulp; results below 2^-126 become 0. 2^-inf is 0.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 1 / x with 1 ulp. 1 / inf is 0.
__device__ __forceinline__ float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// log2(x) with 1 ulp or an absolute error of 2^-22. log2(0) is -inf.
__device__ __forceinline__ float log2_approx(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace triage::ptx
