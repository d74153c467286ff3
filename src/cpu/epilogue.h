// What happens to finished sums on their way to the output. Included only by src/cpu/*_kernel.cpp (see simd.h).
#pragma once

#include <cmath>
#include <cstdint>

#include "cpu/pack.h"
#include "triage/types.h"

namespace triage::cpu::TRIAGE_ISA {

/// exp within about 2 ulp over the whole range, NaN and infinities included; without branches, so that loops over it
/// become vector code. exp(y) = 2^n * exp(r), r = y - n * ln 2, |r| <= ln 2 / 2; Taylor's series serves as polynomial.
static inline float exp_of(float y) {
  y = y < -104.0f ? -104.0f : y;  // result 0; in this form NaN passes
  y = y > 89.0f ? 89.0f : y;      // result infinite
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float biased = y * 1.44269504f + magic;
  const float n = biased - magic;
  const float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts: n times the first is exact
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // 2^n in two factors, because n reaches beyond the exponents of normal numbers.
  const std::int32_t whole = __builtin_bit_cast(std::int32_t, biased) - __builtin_bit_cast(std::int32_t, magic);
  const std::int32_t half = whole >> 1;
  const float first = __builtin_bit_cast(float, static_cast<std::uint32_t>(half + 127) << 23);
  const float second = __builtin_bit_cast(float, static_cast<std::uint32_t>(whole - half + 127) << 23);
  return p * first * second;
}

static inline double exp_of(double y) { return std::exp(y); }

/// The standard normal distribution function, relative error about 2e-7 over the whole range.
/// For z >= 0: erfc(z) = t * exp(-z^2 + P(t)), t = 1 / (1 + z / 2); P is the Chebyshev fit of degree 9 over [0.1, 1].
static inline float normal_cdf(float x) {
  const float z = (x < 0 ? -x : x) * 0.707106781f;
  const float t = 1.0f / (1.0f + 0.5f * z);
  float p = 0.1804211602f;
  p = p * t - 0.8679362918f;
  p = p * t + 1.58111057f;
  p = p * t - 1.237846376f;
  p = p * t + 0.3466895215f;
  p = p * t - 0.2134825886f;
  p = p * t + 0.1032236888f;
  p = p * t + 0.3732609934f;
  p = p * t + 1.000072417f;
  p = p * t - 1.265513003f;
  const float tail = 0.5f * t * exp_of(p - z * z);
  return x < 0 ? tail : 1.0f - tail;
}

static inline double normal_cdf(double x) { return 0.5 * std::erfc(x * -0.70710678118654752440); }

template <class T>
static inline void activate_row(Activation activation, std::int64_t count, T* __restrict row) {
  switch (activation) {
    case Activation::none:
      return;
    case Activation::relu:
      for (std::int64_t i = 0; i < count; ++i) row[i] = row[i] < 0 ? T{} : row[i];  // NaN stays
      return;
    case Activation::gelu:
      for (std::int64_t i = 0; i < count; ++i) row[i] = row[i] * normal_cdf(row[i]);
      return;
    case Activation::silu:
      for (std::int64_t i = 0; i < count; ++i) row[i] = row[i] / (T{1} + exp_of(-row[i]));
      return;
  }
}

/// out[i] = alpha * sums[i] + beta * out[i]; `out` is not read if beta is 0. `sums` is scratch afterwards.
template <class Storage>
static inline void scale_row(Compute<Storage>* __restrict sums, std::int64_t count, float alpha, float beta,
                             Storage* __restrict out) {
  using T = Compute<Storage>;
  const T scale = alpha, scale_out = beta;
  if (scale_out == 0) {
    for (std::int64_t i = 0; i < count; ++i) sums[i] *= scale;
  } else {
    for (std::int64_t i = 0; i < count; ++i) sums[i] = scale * sums[i] + scale_out * widen(out[i]);
  }
  narrow_row<Storage>(sums, count, out);
}

}  // namespace triage::cpu::TRIAGE_ISA
