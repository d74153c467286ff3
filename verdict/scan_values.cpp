#include "verdict/scan_values.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/half.h"
#include "triage/error.h"

namespace triage::verdict {
namespace {

template <class T, class Convert>
void convert(const void* in, std::size_t count, float* out, Convert one) {
  const auto* source = static_cast<const unsigned char*>(in);  // data in a file need not be aligned
  for (std::size_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, source + i * sizeof(T), sizeof(T));
    out[i] = one(value);
  }
}

float narrow_double(double value) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  // Narrowing a finite value beyond float's range is undefined; it becomes infinity here.
  if (std::fabs(value) > std::numeric_limits<float>::max()) return value < 0 ? -kInfinity : kInfinity;
  const float narrow = static_cast<float>(value);
  if (narrow == 0.0f && value != 0.0)
    return std::copysign(std::numeric_limits<float>::denorm_min(), value < 0 ? -1.f : 1.f);
  return narrow;
}

template <class T>
void round_as(float* values, std::size_t count, void* out) {
  auto* target = static_cast<T*>(out);
  for (std::size_t i = 0; i < count; ++i) {
    narrow(values[i], &target[i]);
    values[i] = widen(target[i]);
  }
}

bool is_dtype(DLDataType dtype, int code, int bits) {
  return dtype.code == code && dtype.bits == bits && dtype.lanes == 1;
}

}  // namespace

void to_float(io::TensorDtype dtype, const void* in, std::size_t count, float* out) {
  const auto widened = [](auto value) { return widen(value); };
  switch (dtype) {
    case io::TensorDtype::f32:
      std::memcpy(out, in, count * sizeof(float));
      return;
    case io::TensorDtype::f16:
      convert<Half>(in, count, out, widened);
      return;
    case io::TensorDtype::bf16:
      convert<BFloat16>(in, count, out, widened);
      return;
    case io::TensorDtype::f64:
      convert<double>(in, count, out, narrow_double);
      return;
    default:
      throw Error(ErrorCode::invalid_argument, std::string("no weight dtype: ") + io::dtype_name(dtype));
  }
}

void round_to(DLDataType dtype, float* values, std::size_t count, void* out) {
  if (is_dtype(dtype, kDLFloat, 16)) return round_as<Half>(values, count, out);
  if (is_dtype(dtype, kDLBfloat, 16)) return round_as<BFloat16>(values, count, out);
  std::memcpy(out, values, count * sizeof(float));
}

void widen_from(DLDataType dtype, const void* in, std::size_t count, float* out) {
  if (is_dtype(dtype, kDLFloat, 16)) return to_float(io::TensorDtype::f16, in, count, out);
  to_float(is_dtype(dtype, kDLBfloat, 16) ? io::TensorDtype::bf16 : io::TensorDtype::f32, in, count, out);
}

}  // namespace triage::verdict
