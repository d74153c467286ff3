#include "io/weight_values.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "triage/error.h"

namespace triage::io {
namespace {

float float_from_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class T, class Convert>
void convert(const void* in, std::size_t count, float* out, Convert one) {
  const auto* source = static_cast<const unsigned char*>(in);  // data in a file need not be aligned
  for (std::size_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, source + i * sizeof(T), sizeof(T));
    out[i] = one(value);
  }
}

}  // namespace

float half_to_float(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = bits >> 10 & 0x1Fu, fraction = bits & 0x3FFu;
  if (exponent == 0) return std::copysign(std::ldexp(static_cast<float>(fraction), -24), sign ? -1.0f : 1.0f);
  if (exponent == 31) return float_from_bits(sign | 0x7F800000u | fraction << 13);
  return float_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

float bfloat16_to_float(std::uint16_t bits) { return float_from_bits(static_cast<std::uint32_t>(bits) << 16); }

std::uint16_t float_to_bfloat16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (std::isnan(value)) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

void to_float(TensorDtype dtype, const void* in, std::size_t count, float* out) {
  switch (dtype) {
    case TensorDtype::f32:
      std::memcpy(out, in, count * sizeof(float));
      return;
    case TensorDtype::f16:
      convert<std::uint16_t>(in, count, out, half_to_float);
      return;
    case TensorDtype::bf16:
      convert<std::uint16_t>(in, count, out, bfloat16_to_float);
      return;
    case TensorDtype::f64:
      convert<double>(in, count, out, [](double value) {
        // Narrowing a finite value beyond float's range is undefined; it becomes infinity here.
        if (std::isfinite(value) && std::fabs(value) > std::numeric_limits<float>::max()) {
          return std::copysign(std::numeric_limits<float>::infinity(), static_cast<float>(std::copysign(1.0, value)));
        }
        const float narrow = static_cast<float>(value);
        return narrow == 0.0f && value != 0.0
                   ? std::copysign(std::numeric_limits<float>::denorm_min(), value < 0 ? -1.0f : 1.0f)
                   : narrow;
      });
      return;
    default:
      throw Error(ErrorCode::invalid_argument, std::string("no weight dtype: ") + dtype_name(dtype));
  }
}

}  // namespace triage::io
