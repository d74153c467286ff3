#include "cpu/gradient_parts.h"

#include <algorithm>
#include <type_traits>

#include "cpu/half.h"
#include "cpu/parallel.h"

namespace triage::cpu {

namespace {

template <typename Word>
void turn(const Word* values, const std::int32_t* positions, std::int64_t nnz, int block, Word* to) {
  constexpr int kSide = 16;  // both squares stay in the L1 cache
  constexpr std::int64_t kElementsPerTask = 1 << 16;
  const std::int64_t size = std::int64_t{block} * block, per_task = std::max<std::int64_t>(1, kElementsPerTask / size);
  parallel_for(available_threads(), (nnz + per_task - 1) / per_task, [&](std::int64_t task, int) {
    for (std::int64_t i = task * per_task; i < std::min(nnz, (task + 1) * per_task); ++i) {
      const Word* from = values + positions[i] * size;
      Word* turned = to + i * size;
      for (int r = 0; r < block; r += kSide) {
        for (int c = 0; c < block; c += kSide) {
          for (int y = 0; y < kSide; ++y)
            for (int x = 0; x < kSide; ++x) turned[(c + y) * block + r + x] = from[(r + x) * block + c + y];
        }
      }
    }
  });
}

template <typename Storage>
void sum(const Matrix& matrix, Storage* to) {
  using Sum = std::conditional_t<std::is_same_v<Storage, double>, double, float>;
  constexpr int kColumns = 64;
  parallel_for(available_threads(), (matrix.cols + kColumns - 1) / kColumns, [&](std::int64_t task, int) {
    const std::int64_t first = task * kColumns;
    const int columns = static_cast<int>(std::min<std::int64_t>(kColumns, matrix.cols - first));
    Sum sums[kColumns] = {};
    for (std::int64_t r = 0; r < matrix.rows; ++r) {
      const Storage* row = static_cast<const Storage*>(matrix.data) + r * matrix.stride + first;
      for (int c = 0; c < columns; ++c) sums[c] += widen(row[c]);
    }
    for (int c = 0; c < columns; ++c) narrow(sums[c], to + first + c);
  });
}

}  // namespace

void turn_blocks(const void* values, const std::int32_t* positions, std::int64_t nnz, int block, int element_bytes,
                 void* to) {
  const auto turn_words = [&]<typename Word>(Word) {
    turn(static_cast<const Word*>(values), positions, nnz, block, static_cast<Word*>(to));
  };
  if (element_bytes == 2) return turn_words(std::uint16_t{});
  if (element_bytes == 4) return turn_words(std::uint32_t{});
  turn_words(std::uint64_t{});
}

void sum_columns(const Matrix& matrix, DType dtype, void* to) {
  switch (dtype) {
    case DType::float16:
      return sum(matrix, static_cast<Half*>(to));
    case DType::bfloat16:
      return sum(matrix, static_cast<BFloat16*>(to));
    case DType::float32:
      return sum(matrix, static_cast<float*>(to));
    case DType::float64:
      return sum(matrix, static_cast<double*>(to));
  }
}

}  // namespace triage::cpu
