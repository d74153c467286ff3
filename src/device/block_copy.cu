// Between dense matrices and blocks on the GPU. One CTA a block of the matrix; consecutive threads, consecutive
// columns.
#include <cuda_runtime.h>

#include "device/cuda_check.h"
#include "device/pattern_build.h"

namespace triage {

namespace {

constexpr int kThreads = 256;

unsigned grid_for(std::int64_t blocks) { return static_cast<unsigned>(blocks < 1 << 20 ? blocks : 1 << 20); }

// Zero of either sign is zero; NaN is not.
template <typename Word>
__global__ void __launch_bounds__(kThreads) mark_nonzero_blocks(DenseMatrix matrix, int block, std::int64_t block_cols,
                                                                std::int64_t blocks, std::uint8_t* mask) {
  constexpr Word kMagnitude = static_cast<Word>(~Word{0}) >> 1;
  for (std::int64_t i = blockIdx.x; i < blocks; i += gridDim.x) {
    const std::int64_t first_row = i / block_cols * block, first_col = i % block_cols * block;
    bool any = false;
    for (int e = threadIdx.x; e < block * block; e += kThreads) {
      const std::int64_t r = first_row + e / block, c = first_col + e % block;
      if (r >= matrix.rows || c >= matrix.cols) continue;
      any |= (static_cast<const Word*>(matrix.data)[r * matrix.stride + c] & kMagnitude) != 0;
    }
    any = __syncthreads_or(any);
    if (threadIdx.x == 0) mask[i] = any;
  }
}

template <typename Word, bool kGather>
__global__ void __launch_bounds__(kThreads) copy_blocks(PatternView pattern, DenseMatrix matrix, Word* values) {
  const int block = pattern.block;
  for (std::int64_t i = blockIdx.x; i < pattern.nnz_blocks; i += gridDim.x) {
    const std::int64_t first_row = std::int64_t{pattern.row[i]} * block,
                       first_col = std::int64_t{pattern.col[i]} * block;
    Word* in_values = values + i * block * block;
    for (int e = threadIdx.x; e < block * block; e += kThreads) {
      const std::int64_t r = first_row + e / block, c = first_col + e % block;
      const bool inside = r < matrix.rows && c < matrix.cols;
      Word* in_matrix = static_cast<Word*>(matrix.data) + r * matrix.stride + c;
      if constexpr (kGather) {
        in_values[e] = inside ? *in_matrix : Word{0};
      } else if (inside) {
        *in_matrix = in_values[e];
      }
    }
  }
}

template <typename Word>
void mark_words(const DenseMatrix& matrix, int block, std::uint8_t* mask, cudaStream_t stream) {
  const std::int64_t block_rows = (matrix.rows + block - 1) / block, block_cols = (matrix.cols + block - 1) / block;
  mark_nonzero_blocks<Word><<<grid_for(block_rows * block_cols), kThreads, 0, stream>>>(matrix, block, block_cols,
                                                                                        block_rows * block_cols, mask);
  cuda_check(cudaGetLastError(), "launch of mark_nonzero_blocks");
}

template <typename Word, bool kGather>
void copy_words(const PatternView& pattern, const DenseMatrix& matrix, void* values, cudaStream_t stream) {
  if (pattern.nnz_blocks == 0) return;
  copy_blocks<Word, kGather>
      <<<grid_for(pattern.nnz_blocks), kThreads, 0, stream>>>(pattern, matrix, static_cast<Word*>(values));
  cuda_check(cudaGetLastError(), "launch of copy_blocks");
}

template <bool kGather>
void copy_any(const PatternView& pattern, const DenseMatrix& matrix, void* values, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  switch (matrix.element_bytes) {
    case 2:
      return copy_words<std::uint16_t, kGather>(pattern, matrix, values, on);
    case 4:
      return copy_words<std::uint32_t, kGather>(pattern, matrix, values, on);
    default:
      return copy_words<std::uint64_t, kGather>(pattern, matrix, values, on);
  }
}

}  // namespace

void dense_to_mask_cuda(const DenseMatrix& matrix, int block, std::uint8_t* mask, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  switch (matrix.element_bytes) {
    case 2:
      return mark_words<std::uint16_t>(matrix, block, mask, on);
    case 4:
      return mark_words<std::uint32_t>(matrix, block, mask, on);
    default:
      return mark_words<std::uint64_t>(matrix, block, mask, on);
  }
}

void gather_blocks_cuda(const PatternView& pattern, const DenseMatrix& matrix, void* values, void* stream) {
  copy_any<true>(pattern, matrix, values, stream);
}

void scatter_blocks_cuda(const PatternView& pattern, const void* values, const DenseMatrix& matrix, void* stream) {
  copy_any<false>(pattern, matrix, const_cast<void*>(values), stream);
}

void clear_matrix_cuda(const DenseMatrix& matrix, void* stream) {
  const auto bytes = static_cast<std::size_t>(matrix.element_bytes);
  const std::size_t width = static_cast<std::size_t>(matrix.cols) * bytes;
  cuda_check(cudaMemset2DAsync(matrix.data, matrix.rows > 1 ? static_cast<std::size_t>(matrix.stride) * bytes : width,
                               0, width, static_cast<std::size_t>(matrix.rows), static_cast<cudaStream_t>(stream)),
             "cudaMemset2DAsync");
}

}  // namespace triage
