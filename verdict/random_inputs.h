// Random operands: the same numbers for the same seed on every machine and with any number of threads.
#pragma once

#include <cstdint>

#include "registry/kernel.h"

namespace triage::verdict {

/// Element `index` of stream `seed`: 64 well-mixed bits (SplitMix64, addressed by counter). constexpr: GPU code calls it.
constexpr std::uint64_t random_bits(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed * 0xd1342543de82ef95u + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/// ValueKind::centred from random bits. constexpr: GPU code calls it.
constexpr float centred_value(std::uint64_t bits) {
  float sum = -131070.0f;  // four uniforms on [0, 65535]: mean 131070, standard deviation 65535 / sqrt(3)
  for (int i = 0; i < 4; ++i) sum += static_cast<float>((bits >> (16 * i)) & 0xffff);
  return sum * (1.7320508f / 65535.0f);
}

/// A plain generator over one stream, for decisions.
class Random {
 public:
  explicit Random(std::uint64_t seed) : seed_(seed) {}
  std::uint64_t bits() { return random_bits(seed_, next_++); }
  /// In [low, high], both included.
  std::int64_t integer(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(high - low + 1));
  }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  bool chance(double probability) { return uniform() < probability; }

 private:
  std::uint64_t seed_;
  std::uint64_t next_ = 0;
};

enum class ValueKind {
  centred,   ///< mean 0, variance 1, within +-3.5 (sum of four uniforms)
  positive,  ///< uniform in (0, 1): sums that grow, no cancellation
  integers,  ///< -3 .. 3: products and sums are exact, so results must be
  wide,      ///< centred times a power of two between 2^-6 and 2^6
};

const char* value_kind_name(ValueKind kind);  ///< "centred", ...

/// Fills [rows, cols] with outer stride `stride` (elements); what lies between the rows stays.
void fill_random(DType dtype, void* data, std::int64_t rows, std::int64_t cols, std::int64_t stride, std::uint64_t seed,
                 ValueKind kind);

/// Fills `count` elements with NaNs of many different bit patterns, so that a copy of one is no other.
void fill_poison(DType dtype, void* data, std::int64_t count, std::uint64_t seed);

int dtype_bytes(DType dtype);
DLDataType dlpack_dtype(DType dtype);

/// One element as a double, exactly; and a double rounded to the dtype and written.
double read_element(DType dtype, const void* data, std::int64_t index);
void write_element(DType dtype, void* data, std::int64_t index, double value);

}  // namespace triage::verdict
