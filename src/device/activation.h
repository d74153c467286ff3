// The elementwise functions of linear's epilogue, on fp32.
#pragma once

#include "triage/types.h"

namespace triage::device {

/// x * Phi(x), the exact form of GELU.
__device__ __forceinline__ float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }

/// x * sigmoid(x). For x below -88 the quotient is x / infinity = -0, the limit.
__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.0f + __expf(-x)); }

/// NaN stays NaN, as in torch (fmaxf would drop it).
__device__ __forceinline__ float relu(float x) { return x < 0.0f ? 0.0f : x; }

/// Applies `activation`, the same for all threads, in place.
template <int kCount>
__device__ __forceinline__ void activate(float (&x)[kCount], Activation activation) {
  switch (activation) {
    case Activation::none: break;
    case Activation::relu:
#pragma unroll
      for (int i = 0; i < kCount; i++) x[i] = relu(x[i]);
      break;
    case Activation::gelu:
#pragma unroll
      for (int i = 0; i < kCount; i++) x[i] = gelu(x[i]);
      break;
    case Activation::silu:
#pragma unroll
      for (int i = 0; i < kCount; i++) x[i] = silu(x[i]);
      break;
  }
}

}  // namespace triage::device
