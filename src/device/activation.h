// The elementwise functions of linear's epilogue, on fp32.
#pragma once

#include "ptx/approximate.h"
#include "triage/types.h"

namespace triage::device {

/// x * Phi(x), the exact form of GELU (not tanh's), Phi being the normal distribution: 0.5 x + |x| (0.5 - Q(|x|)) with
/// Q(z) = 1 - Phi(z) = 2^p(z). p is a polynomial of degree 5, fitted to log2 Q on [0, 6.2] so that the largest relative
/// error of Q is least: 4e-5, a sixth of an fp16 rounding; further out p falls to -infinity and Q to 0. For x below -4
/// the error is that of 0.5 - Q in fp32, as in the textbook's 0.5 x (1 + erf(x / sqrt(2))). Nine instructions; erff
/// alone takes about thirty.
__device__ __forceinline__ float gelu(float x) {
  const float z = fabsf(x);
  float p = -0.0003773850330617279f;
  p = fmaf(p, z, 0.006351520773023367f);
  p = fmaf(p, z, -0.04990874230861664f);
  p = fmaf(p, z, -0.46197739243507385f);
  p = fmaf(p, z, -1.1501206159591675f);
  p = fmaf(p, z, -1.0000553131103516f);
  return fmaf(z, 0.5f - ptx::exp2_approx(p), 0.5f * x);
}

/// x * sigmoid(x). For x below -88 the product is x / infinity = -0, the limit.
__device__ __forceinline__ float silu(float x) {
  return x * ptx::reciprocal_approx(1.0f + ptx::exp2_approx(x * -1.4426950408889634f));
}

/// NaN stays NaN, as in torch.
__device__ __forceinline__ float relu(float x) { return ptx::max_nan(x, 0.0f); }

/// Applies `activation`, the same for all threads, in place.
template <int kCount>
__device__ __forceinline__ void activate(float (&x)[kCount], Activation activation) {
  switch (activation) {
    case Activation::none:
      break;
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
