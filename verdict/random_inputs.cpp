#include "verdict/random_inputs.h"

#include <cmath>
#include <cstring>

#include "cpu/half.h"
#include "cpu/parallel.h"

namespace triage::verdict {
namespace {

template <class Function>
auto with_storage(DType dtype, const Function& function) {
  switch (dtype) {
    case DType::float16: return function(Half{});
    case DType::bfloat16: return function(BFloat16{});
    case DType::float32: return function(float{});
    case DType::float64: break;
  }
  return function(double{});
}

float value_of(std::uint64_t bits, ValueKind kind) {
  switch (kind) {
    case ValueKind::integers: return static_cast<float>(bits % 7) - 3.0f;
    case ValueKind::positive: return (static_cast<float>(bits >> 40) + 0.5f) * 0x1p-24f;
    case ValueKind::centred:
    case ValueKind::wide: break;
  }
  const float centred = centred_value(bits);
  if (kind == ValueKind::centred) return centred;
  return std::ldexp(centred, static_cast<int>(random_bits(bits, 1) % 13) - 6);
}

template <class Storage>
using Wide = std::conditional_t<std::is_same_v<Storage, double>, double, float>;

}  // namespace

const char* value_kind_name(ValueKind kind) {
  switch (kind) {
    case ValueKind::centred:
      return "centred";
    case ValueKind::positive:
      return "positive";
    case ValueKind::integers:
      return "integers";
    case ValueKind::wide:
      return "wide";
  }
  return "unknown";
}

void fill_random(DType dtype, void* data, std::int64_t rows, std::int64_t cols, std::int64_t stride, std::uint64_t seed,
                 ValueKind kind) {
  with_storage(dtype, [&](auto zero) {
    using Storage = decltype(zero);
    constexpr std::int64_t kRowsPerTask = 16;
    const int threads = rows * cols > 1 << 16 ? cpu::available_threads() : 1;
    cpu::parallel_for(threads, (rows + kRowsPerTask - 1) / kRowsPerTask, [&](std::int64_t task, int) {
      for (std::int64_t row = task * kRowsPerTask; row < rows && row < (task + 1) * kRowsPerTask; ++row) {
        Storage* to = static_cast<Storage*>(data) + row * stride;
        for (std::int64_t col = 0; col < cols; ++col)
          narrow(static_cast<Wide<Storage>>(value_of(random_bits(seed, row * cols + col), kind)), to + col);
      }
    });
  });
}

void fill_poison(DType dtype, void* data, std::int64_t count, std::uint64_t seed) {
  const int bytes = dtype_bytes(dtype);
  constexpr std::int64_t kPerTask = 1 << 16;
  const int threads = count > kPerTask ? cpu::available_threads() : 1;
  cpu::parallel_for(threads, (count + kPerTask - 1) / kPerTask, [&](std::int64_t task, int) {
    for (std::int64_t i = task * kPerTask; i < count && i < (task + 1) * kPerTask; ++i) {
      const std::uint64_t random = random_bits(seed, i);
      std::uint64_t bits = 0;  // all exponent bits, the quiet bit, a random sign and payload
      switch (dtype) {
        case DType::float16: bits = 0x7e00u | (random & 0x81ffu); break;
        case DType::bfloat16: bits = 0x7fc0u | (random & 0x803fu); break;
        case DType::float32: bits = 0x7fc00000u | (random & 0x803fffffu); break;
        case DType::float64: bits = 0x7ff8000000000000u | (random & 0x8007ffffffffffffu); break;
      }
      std::memcpy(static_cast<char*>(data) + i * bytes, &bits, bytes);  // little endian, as CUDA's hosts are
    }
  });
}

int dtype_bytes(DType dtype) {
  return with_storage(dtype, [](auto zero) { return static_cast<int>(sizeof(zero)); });
}

DLDataType dlpack_dtype(DType dtype) {
  const auto code = static_cast<std::uint8_t>(dtype == DType::bfloat16 ? kDLBfloat : kDLFloat);
  return {code, static_cast<std::uint8_t>(8 * dtype_bytes(dtype)), 1};
}

double read_element(DType dtype, const void* data, std::int64_t index) {
  return with_storage(dtype, [&](auto zero) {
    return static_cast<double>(widen(static_cast<const decltype(zero)*>(data)[index]));
  });
}

void write_element(DType dtype, void* data, std::int64_t index, double value) {
  with_storage(dtype, [&](auto zero) {
    using Storage = decltype(zero);
    narrow(static_cast<Wide<Storage>>(value), static_cast<Storage*>(data) + index);
  });
}

}  // namespace triage::verdict
