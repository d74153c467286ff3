// Copies of operands in the shape and the precision in which multiply_tile reads them. Included only by
// src/cpu/*_kernel.cpp (see simd.h).
#pragma once

#include <cstdint>
#include <type_traits>

#ifdef __F16C__
#include <immintrin.h>
#endif

#include "cpu/half.h"
#include "cpu/simd.h"

namespace triage::cpu::TRIAGE_ISA {

/// What sums are kept in: float for the 16-bit types.
template <class Storage>
using Compute = std::conditional_t<std::is_same_v<Storage, double>, double, float>;

/// to[i] = from[i] for i in [0, count).
template <class Storage>
static inline void widen_row(const Storage* __restrict from, std::int64_t count, Compute<Storage>* __restrict to) {
  std::int64_t i = 0;
#ifdef __F16C__
  if constexpr (std::is_same_v<Storage, Half>) {
    for (; i + 8 <= count; i += 8)
      _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
  }
#endif
  for (; i < count; ++i) to[i] = widen(from[i]);
}

/// to[i] = from[i] rounded, for i in [0, count).
template <class Storage>
static inline void narrow_row(const Compute<Storage>* __restrict from, std::int64_t count, Storage* __restrict to) {
  std::int64_t i = 0;
#ifdef __F16C__
  if constexpr (std::is_same_v<Storage, Half>) {
    for (; i + 8 <= count; i += 8)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                       _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
#endif
  for (; i < count; ++i) narrow(from[i], to + i);
}

/// A dense operand of a sum over k. Element (k, n) is at data[k * stride + n], or at data[n * stride + k] if `transposed`.
template <class Storage>
struct DenseOperand {
  const Storage* data;
  std::int64_t stride;
  bool transposed;
  std::int64_t columns;  ///< n counts to here; beyond it, packed panels hold zeros
};

/// panel[(k - k_begin) * width + n - n_begin] = element (k, n) for k in [k_begin, k_end) and n in [n_begin, n_begin + width).
template <class Storage>
static void pack_panel(const DenseOperand<Storage>& operand, std::int64_t k_begin, std::int64_t k_end,
                       std::int64_t n_begin, int width, Compute<Storage>* panel) {
  using T = Compute<Storage>;
  const std::int64_t left = operand.columns - n_begin;
  const int present = static_cast<int>(left < 0 ? 0 : left < width ? left : width);
  if (!operand.transposed) {
    for (std::int64_t k = k_begin; k < k_end; ++k, panel += width) {
      widen_row(operand.data + k * operand.stride + n_begin, present, panel);
      for (int n = present; n < width; ++n) panel[n] = T{};
    }
    return;
  }
  // Through a small square, so that neither side is walked against its grain over more lines than the L1 cache has.
  constexpr int kSide = 16;
  T square[kSide][kSide];
  for (std::int64_t k = k_begin; k < k_end; k += kSide, panel += kSide * width) {
    const int depth = static_cast<int>(k_end - k < kSide ? k_end - k : kSide);
    for (int n = 0; n < width; n += kSide) {
      const int count = width - n < kSide ? width - n : kSide;
      for (int i = 0; i < count; ++i) {
        if (n + i < present) {
          widen_row(operand.data + (n_begin + n + i) * operand.stride + k, depth, square[i]);
        } else {
          for (int j = 0; j < depth; ++j) square[i][j] = T{};
        }
      }
      for (int j = 0; j < depth; ++j)
        for (int i = 0; i < count; ++i) panel[j * width + n + i] = square[i][j];
    }
  }
}

/// Panels that `columns` columns are cut into: all kPanelColumns wide, the last one as many whole vectors as it needs.
template <class T>
struct Panels {
  std::int64_t columns;
  std::int64_t count() const { return (columns + kPanelColumns<T> - 1) / kPanelColumns<T>; }
  std::int64_t begin(std::int64_t panel) const { return panel * kPanelColumns<T>; }
  int width(std::int64_t panel) const {
    const std::int64_t left = columns - begin(panel);
    return static_cast<int>(left >= kPanelColumns<T> ? kPanelColumns<T> : (left + kLanes<T> - 1) / kLanes<T> * kLanes<T>);
  }
  /// Columns with the padding of the last panel.
  std::int64_t padded() const { return count() == 0 ? 0 : begin(count() - 1) + width(count() - 1); }
};

}  // namespace triage::cpu::TRIAGE_ISA
