// One-instruction approximations of elementary functions in fp32, and a maximum that keeps NaN (sm_80 and later).
// Results and arguments below the smallest normal number count as 0.
#pragma once

namespace triage::ptx {

/// 2^x, relative error 2^-22. 2^-inf = 0, 2^inf = inf.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 1 / x, relative error 2^-23. 1 / inf = 0.
__device__ __forceinline__ float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// NaN if either is (fmaxf would drop it).
__device__ __forceinline__ float max_nan(float x, float y) {
  float z;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
  return z;
}

}  // namespace triage::ptx
