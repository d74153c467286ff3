// Vectors of the instruction set that the including file is compiled for, and the product of a few rows with a panel.
// Included only by src/cpu/*_kernel.cpp, which are compiled once per instruction set (TRIAGE_ISA names it and is the
// namespace here).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace triage::cpu::TRIAGE_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
inline constexpr int kMaxVectors = 3;  // 8 rows x 3 vectors of accumulators out of 32 registers
constexpr int rows_per_strip(int) { return 8; }
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32;
inline constexpr int kMaxVectors = 3;  // 4 rows x 3 vectors out of 16 registers
constexpr int rows_per_strip(int vectors) { return vectors == 1 ? 8 : 4; }
#elif defined(__aarch64__)
inline constexpr int kVectorBytes = 16;
inline constexpr int kMaxVectors = 3;  // 8 rows x 3 vectors out of 32 registers
constexpr int rows_per_strip(int) { return 8; }
#else
inline constexpr int kVectorBytes = 16;
inline constexpr int kMaxVectors = 2;  // 4 rows x 2 vectors out of 16 registers; a product needs one more without FMA
constexpr int rows_per_strip(int vectors) { return vectors == 1 ? 8 : 4; }
#endif

template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
/// Columns of a full panel.
template <class T>
inline constexpr int kPanelColumns = kLanes<T> * kMaxVectors;

template <class T>
struct VectorOf {
  typedef T Aligned __attribute__((vector_size(kVectorBytes)));
  typedef Aligned Type __attribute__((aligned(sizeof(T))));  // loads and stores at any element
};
template <class T>
using Vector = typename VectorOf<T>::Type;

/// Part of a sum over k: `depth` columns of the left operand and as many rows of the right operand's panel.
template <class T>
struct Segment {
  const T* left;
  std::int64_t panel_row;
  int depth;
};

/// How the left operand lies: element (row, k) is at left[row * stride + k] or at left[k * stride + row].
enum class LeftOrder { k_contiguous, rows_contiguous };

/// sums[row][column] (+)= sum over all segments and k of left(row, k) * panel[k][column], for rows_per_strip(kVectors)
/// rows and all columns of a panel that is kVectors wide. Each sum is one chain in the order of the segments, so its
/// value depends neither on the tile nor on the thread.
template <class T, int kVectors, LeftOrder kOrder>
static inline void multiply_strip(const Segment<T>* segments, int count, std::ptrdiff_t left_offset,
                                  std::ptrdiff_t stride, const T* panel, T* sums, bool accumulate) {
  constexpr int kRows = rows_per_strip(kVectors);
  constexpr int kColumns = kVectors * kLanes<T>;
  Vector<T> accumulators[kRows][kVectors];
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      accumulators[row][v] =
          accumulate ? *reinterpret_cast<const Vector<T>*>(sums + row * kColumns + v * kLanes<T>) : Vector<T>{};

  for (int s = 0; s < count; ++s) {
    const T* left = segments[s].left + left_offset;
    const T* right = panel + segments[s].panel_row * kColumns;
    for (int k = 0; k < segments[s].depth; ++k) {
      Vector<T> columns[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) columns[v] = *reinterpret_cast<const Vector<T>*>(right + v * kLanes<T>);
#pragma GCC unroll 8
      for (int row = 0; row < kRows; ++row) {
        const T factor = kOrder == LeftOrder::k_contiguous ? left[row * stride + k] : left[k * stride + row];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) accumulators[row][v] += factor * columns[v];
      }
      right += kColumns;
    }
  }

#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      *reinterpret_cast<Vector<T>*>(sums + row * kColumns + v * kLanes<T>) = accumulators[row][v];
}

/// multiply_strip over all strips of `rows` rows (the last may compute rows beyond; their sums are not used) of a panel
/// that is `columns` wide, a multiple of kLanes.
template <class T, LeftOrder kOrder>
static void multiply_tile(const Segment<T>* segments, int count, int rows, std::ptrdiff_t stride, const T* panel,
                          int columns, T* sums, bool accumulate) {
  const auto strips = [&](auto vectors) {
    constexpr int kVectors = decltype(vectors)::value;
    for (int row = 0; row < rows; row += rows_per_strip(kVectors))
      multiply_strip<T, kVectors, kOrder>(segments, count, kOrder == LeftOrder::k_contiguous ? row * stride : row,
                                          stride, panel, sums + row * kVectors * kLanes<T>, accumulate);
  };
  switch (columns / kLanes<T>) {
    case 1: return strips(std::integral_constant<int, 1>{});
    case 2: return strips(std::integral_constant<int, 2>{});
    default: return strips(std::integral_constant<int, 3>{});
  }
}

}  // namespace triage::cpu::TRIAGE_ISA
