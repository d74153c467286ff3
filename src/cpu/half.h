// float16 and bfloat16 as bits, and their conversions to and from float. Needs no compiler support for either type.
#pragma once

#include <cstdint>

namespace triage {

/// IEEE binary16 as it lies in memory.
struct Half {
  std::uint16_t bits;
};

/// The upper half of a float.
struct BFloat16 {
  std::uint16_t bits;
};

// These functions are `static` because files of src/cpu are compiled for several instruction sets: of an inline function
// that they shared, the linker might keep the copy that this machine cannot run.

// widen: exact.
static inline float widen(float value) { return value; }
static inline double widen(double value) { return value; }

static inline float widen(BFloat16 value) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(value.bits) << 16);
}

static inline float widen(Half value) {
  const std::uint32_t sign = (value.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = (value.bits & 0x7fffu) << 13;
  // The exponent's bias goes from 15 to 127 by a product, which makes subnormals normal on the way.
  const float scaled = __builtin_bit_cast(float, magnitude) * 0x1p112f;
  const std::uint32_t finite = __builtin_bit_cast(std::uint32_t, scaled);
  const std::uint32_t special = magnitude | 0x7f800000u;
  return __builtin_bit_cast(float, sign | (magnitude >= 0x0f800000u ? special : finite));
}

// narrow: rounds to nearest, ties to even; NaN stays NaN, what is too large becomes infinite.
static inline void narrow(float value, float* out) { *out = value; }
static inline void narrow(double value, double* out) { *out = value; }

static inline void narrow(float value, BFloat16* out) {
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, value);
  const std::uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  out->bits = static_cast<std::uint16_t>((is_nan ? bits | 0x00400000u : rounded) >> 16);
}

static inline void narrow(float value, Half* out) {
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  // Below 2^-14 the result is subnormal: the rounding of a sum with 0.5 puts its bits where they belong.
  const float shifted = __builtin_bit_cast(float, magnitude) + 0.5f;
  const std::uint32_t subnormal = __builtin_bit_cast(std::uint32_t, shifted) - 0x3f000000u;
  const std::uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const std::uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const std::uint32_t result = magnitude >= 0x47800000u ? special : magnitude < 0x38800000u ? subnormal : normal;
  out->bits = static_cast<std::uint16_t>(sign | result);
}

}  // namespace triage
