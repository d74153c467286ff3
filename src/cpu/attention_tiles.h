// What tiles of attention's forward and backward have in common. Included only by src/cpu/*_kernel.cpp (see simd.h).
#pragma once

#include <cmath>
#include <cstdint>

#include "cpu/epilogue.h"
#include "cpu/pack.h"
#include "cpu/simd.h"

namespace triage::cpu::TRIAGE_ISA {

inline constexpr int kAttentionRows = 128;  // a multiple of every strip's rows
inline constexpr int kAttentionKeys = 96;   // whole panels for every vector width, and a multiple of strips' rows as well

static_assert(kAttentionKeys % kPanelColumns<float> == 0 && kAttentionKeys % kPanelColumns<double> == 0,
              "keys are packed in whole panels");

/// tanh within a few ulp, without branches, so that loops over it become vector code: Cephes' polynomial near 0, where
/// 1 - 2 / (exp(2x) + 1) would lose digits, and that elsewhere.
static inline float tanh_of(float x) {
  const float size = x < 0 ? -x : x;
  const float square = x * x;
  float p = -5.70498872745e-3f;
  p = p * square + 2.06390887954e-2f;
  p = p * square - 5.37397155531e-2f;
  p = p * square + 1.33314422036e-1f;
  p = p * square - 3.33332819422e-1f;
  const float near = x + x * square * p;
  const float far = 1.0f - 2.0f / (exp_of(2.0f * size) + 1.0f);
  return size < 0.625f ? near : x < 0 ? -far : far;
}
static inline double tanh_of(double x) { return std::tanh(x); }

/// panel[d * kPanelColumns + n] = row(n)[d] for n < rows and d < dim, 0 for the rest of the panel's columns; through a
/// small square, as pack_panel does.
template <class Storage, class RowAt>
static void pack_transposed(const RowAt& row, int rows, int dim, Compute<Storage>* panel) {
  using T = Compute<Storage>;
  constexpr int kSide = 16, kColumns = kPanelColumns<T>;
  T square[kSide][kSide];
  for (int n = 0; n < kColumns; n += kSide) {
    const int count = kColumns - n < kSide ? kColumns - n : kSide;
    const Storage* from[kSide];
    for (int i = 0; i < count && n + i < rows; ++i) from[i] = row(n + i);
    for (int d = 0; d < dim; d += kSide) {
      const int depth = dim - d < kSide ? dim - d : kSide;
      for (int i = 0; i < count; ++i) {
        if (n + i < rows) {
          widen_row(from[i] + d, depth, square[i]);
        } else {
          for (int j = 0; j < depth; ++j) square[i][j] = 0;
        }
      }
      for (int j = 0; j < depth; ++j)
        for (int i = 0; i < count; ++i) panel[(d + j) * kColumns + n + i] = square[i][j];
    }
  }
}

}  // namespace triage::cpu::TRIAGE_ISA
