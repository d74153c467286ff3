// Weights of any floating-point dtype as float32, and float32 as what a kernel reads.
#pragma once

#include <dlpack/dlpack.h>

#include <cstddef>

#include "io/safetensors.h"

namespace triage::verdict {

/// Converts `count` elements of a weight dtype. A float64 too small for float32 becomes float32's smallest number, not
/// 0: "is zero" must survive the conversion.
void to_float(io::TensorDtype dtype, const void* in, std::size_t count, float* out);

/// Rounds `values` to the dtype in place, and writes them to `out` in that dtype.
void round_to(DLDataType dtype, float* values, std::size_t count, void* out);

/// `count` elements of such a dtype as float32.
void widen_from(DLDataType dtype, const void* in, std::size_t count, float* out);

}  // namespace triage::verdict
