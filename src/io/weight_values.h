// Weights of any floating-point dtype as float32, and back.
#pragma once

#include <cstddef>
#include <cstdint>

#include "io/safetensors.h"

namespace triage::io {

float half_to_float(std::uint16_t bits);
float bfloat16_to_float(std::uint16_t bits);
/// Rounded to nearest, ties to even; NaN stays NaN.
std::uint16_t float_to_bfloat16(float value);

/// Converts `count` elements of a weight dtype. A float64 too small for float32 becomes float32's smallest number, not
/// 0: "is zero" must survive the conversion.
void to_float(TensorDtype dtype, const void* in, std::size_t count, float* out);

}  // namespace triage::io
