// Index arrays on the GPU: checking and converting them, the transposed twin, and row pointers from masks.
#include "device/pattern_build.h"

#include <cuda_runtime.h>

#include "device/cuda_check.h"
#include "device/stable_sort.h"

namespace triage {

namespace {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kThreads = 256;
constexpr int kScanThreads = 1024;

unsigned blocks_for(std::int64_t count) {
  const std::int64_t blocks = (count + kThreads - 1) / kThreads;
  return static_cast<unsigned>(blocks < 65536 ? blocks : 65536);  // kernels stride over the rest
}

// Calls visit(i) for i in [0, count), spread over the grid.
template <typename Visit>
__device__ void for_each_index(std::int64_t count, const Visit& visit) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) visit(i);
}

// The same with a whole warp for each i.
template <typename Visit>
__device__ void for_each_index_by_warp(std::int64_t count, const Visit& visit) {
  const std::int64_t step = std::int64_t{gridDim.x} * (blockDim.x / kWarp);
  const std::int64_t first = std::int64_t{blockIdx.x} * (blockDim.x / kWarp) + threadIdx.x / kWarp;
  for (std::int64_t i = first; i < count; i += step) visit(i);
}

__device__ std::int64_t load_index(const void* data, int bits, std::int64_t i) {
  return bits == 32 ? static_cast<const std::int32_t*>(data)[i] : static_cast<const std::int64_t*>(data)[i];
}

__global__ void convert_indices(const void* from, int bits, std::int64_t count, std::int32_t* to) {
  for_each_index(count, [&](std::int64_t i) { to[i] = static_cast<std::int32_t>(load_index(from, bits, i)); });
}

// A warp a row. Bounds are clamped, so that a wrong row pointer leads nowhere.
__global__ void check_rows(BsrArrays bsr, std::int32_t block_rows, std::int32_t block_cols, std::int64_t nnz,
                           std::int32_t* invalid) {
  const int lane = threadIdx.x % kWarp;
  for_each_index_by_warp(std::int64_t{block_rows} + 1, [&](std::int64_t row) {
    const std::int64_t begin = load_index(bsr.crow, bsr.crow_bits, row);
    bool ok = begin >= 0 && begin <= nnz && (row != 0 || begin == 0) && (row != block_rows || begin == nnz);
    if (row < block_rows && ok) {
      const std::int64_t end = load_index(bsr.crow, bsr.crow_bits, row + 1);
      ok = end >= begin && end <= nnz;
      for (std::int64_t i = begin + lane; ok && i < end; i += kWarp) {
        const std::int64_t column = load_index(bsr.col, bsr.col_bits, i);
        ok = column >= 0 && column < block_cols && (i == begin || load_index(bsr.col, bsr.col_bits, i - 1) < column);
      }
    }
    if (!ok) *invalid = 1;
  });
}

// row[i] of every block, and the numbers 0 .. nnz-1 that the sort moves along.
__global__ void fill_rows(PatternArrays pattern, std::int32_t* numbers) {
  const int lane = threadIdx.x % kWarp;
  for_each_index_by_warp(pattern.block_rows, [&](std::int64_t row) {
    const std::int32_t end = pattern.crow[row + 1];
    for (std::int32_t i = pattern.crow[row] + lane; i < end; i += kWarp) {
      pattern.row[i] = static_cast<std::int32_t>(row);
      numbers[i] = i;
    }
  });
}

// twin.row holds the sorted columns and pattern.positions where each block came from; the rest follows.
__global__ void finish_twin(PatternArrays pattern, PatternArrays twin) {
  for_each_index(pattern.nnz, [&](std::int64_t i) {
    const std::int32_t from = pattern.positions[i];
    twin.col[i] = pattern.row[from];
    twin.positions[from] = static_cast<std::int32_t>(i);
  });
  for_each_index(std::int64_t{twin.block_rows} + 1, [&](std::int64_t row) {
    std::int32_t begin = 0, end = pattern.nnz;  // the first block whose row is not less
    while (begin < end) {
      const std::int32_t middle = begin + (end - begin) / 2;
      if (twin.row[middle] < row) {
        begin = middle + 1;
      } else {
        end = middle;
      }
    }
    twin.crow[row] = begin;
  });
}

__global__ void count_mask_rows(BlockMask mask, std::int32_t* crow) {
  const int lane = threadIdx.x % kWarp;
  if (blockIdx.x == 0 && threadIdx.x == 0) crow[0] = 0;
  for_each_index_by_warp(mask.block_rows, [&](std::int64_t row) {
    const std::uint8_t* bytes = mask.data + row * mask.stride;
    std::int32_t count = 0;
    for (std::int32_t c = lane; c < mask.block_cols; c += kWarp) count += bytes[c] != 0;
    count = __reduce_add_sync(kAllLanes, count);
    if (lane == 0) crow[row + 1] = count;
  });
}

// crow[i] becomes the sum of crow[0 .. i], or -1 past int32; one CTA.
__global__ void __launch_bounds__(kScanThreads) sum_rows(std::int32_t count, std::int32_t* crow) {
  __shared__ std::int64_t warp_sum[kScanThreads / kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  std::int64_t base = 0;
  for (std::int64_t first = 0; first < count; first += kScanThreads) {
    const std::int64_t i = first + threadIdx.x;
    std::int64_t sum = i < count ? crow[i] : 0;
    for (int step = 1; step < kWarp; step *= 2) {
      const std::int64_t below = __shfl_up_sync(kAllLanes, sum, step);
      if (lane >= step) sum += below;
    }
    if (lane == kWarp - 1) warp_sum[warp] = sum;
    __syncthreads();
    std::int64_t total = 0;
    for (int w = 0; w < kScanThreads / kWarp; w++) {
      if (w < warp) sum += warp_sum[w];
      total += warp_sum[w];
    }
    sum += base;
    if (i < count) crow[i] = sum <= INT32_MAX ? static_cast<std::int32_t>(sum) : -1;
    base += total;
    __syncthreads();
  }
}

__global__ void fill_mask_columns(BlockMask mask, const std::int32_t* crow, std::int32_t* col) {
  const int lane = threadIdx.x % kWarp;
  for_each_index_by_warp(mask.block_rows, [&](std::int64_t row) {
    const std::uint8_t* bytes = mask.data + row * mask.stride;
    std::int32_t next = crow[row];
    for (std::int32_t first = 0; first < mask.block_cols; first += kWarp) {
      const std::int32_t c = first + lane;
      const bool exists = c < mask.block_cols && bytes[c] != 0;
      const unsigned lanes = __ballot_sync(kAllLanes, exists);
      if (exists) col[next + __popc(lanes & ((1u << lane) - 1))] = c;
      next += __popc(lanes);
    }
  });
}

template <typename Kernel, typename... Arguments>
void launch(const char* what, Kernel* kernel, unsigned blocks, unsigned threads, void* stream, Arguments... arguments) {
  kernel<<<blocks, threads, 0, static_cast<cudaStream_t>(stream)>>>(arguments...);
  cuda_check(cudaGetLastError(), what);
}

// The sort's key bits: columns are below block_cols.
int key_bits(std::int32_t block_cols) {
  int bits = 1;
  while (bits < 31 && std::int64_t{1} << bits < block_cols) bits++;
  return bits;
}

std::size_t numbers_bytes(std::int64_t nnz) {
  return (static_cast<std::size_t>(nnz) * sizeof(std::int32_t) + 255) / 256 * 256;
}

}  // namespace

void copy_bsr_cuda(const BsrArrays& bsr, const PatternArrays& pattern, void* stream) {
  const std::int64_t pointers = std::int64_t{pattern.block_rows} + 1;
  launch("launch of convert_indices", convert_indices, blocks_for(pointers), kThreads, stream, bsr.crow, bsr.crow_bits,
         pointers, pattern.crow);
  if (pattern.nnz == 0) return;
  launch("launch of convert_indices", convert_indices, blocks_for(pattern.nnz), kThreads, stream, bsr.col, bsr.col_bits,
         std::int64_t{pattern.nnz}, pattern.col);
}

void check_bsr_cuda(const BsrArrays& bsr, std::int32_t block_rows, std::int32_t block_cols, std::int64_t nnz,
                    std::int32_t* invalid, void* stream) {
  cuda_check(cudaMemsetAsync(invalid, 0, sizeof(*invalid), static_cast<cudaStream_t>(stream)), "cudaMemsetAsync");
  launch("launch of check_rows", check_rows, blocks_for((std::int64_t{block_rows} + 1) * kWarp), kThreads, stream, bsr,
         block_rows, block_cols, nnz, invalid);
}

std::size_t build_twin_cuda_scratch_bytes(std::int64_t nnz) {
  return nnz == 0 ? 0 : numbers_bytes(nnz) + stable_sort_cuda_scratch_bytes(static_cast<std::int32_t>(nnz));
}

void build_twin_cuda(const PatternArrays& pattern, const PatternArrays& twin, void* scratch, void* stream) {
  if (pattern.nnz > 0) {
    auto* numbers = static_cast<std::int32_t*>(scratch);
    launch("launch of fill_rows", fill_rows, blocks_for(std::int64_t{pattern.block_rows} * kWarp), kThreads, stream,
           pattern, numbers);
    stable_sort_cuda(pattern.col, twin.row, numbers, pattern.positions, pattern.nnz, key_bits(pattern.block_cols),
                     static_cast<char*>(scratch) + numbers_bytes(pattern.nnz),
                     stable_sort_cuda_scratch_bytes(pattern.nnz), stream);
  }
  const std::int64_t longer = pattern.nnz > twin.block_rows ? pattern.nnz : std::int64_t{twin.block_rows} + 1;
  launch("launch of finish_twin", finish_twin, blocks_for(longer), kThreads, stream, pattern, twin);
}

void mask_to_crow_cuda(const BlockMask& mask, std::int32_t* crow, void* stream) {
  launch("launch of count_mask_rows", count_mask_rows, blocks_for((std::int64_t{mask.block_rows} + 1) * kWarp),
         kThreads, stream, mask, crow);
  launch("launch of sum_rows", sum_rows, 1, kScanThreads, stream, mask.block_rows + 1, crow);
}

void mask_to_col_cuda(const BlockMask& mask, const std::int32_t* crow, std::int32_t* col, void* stream) {
  if (mask.block_rows == 0) return;
  launch("launch of fill_mask_columns", fill_mask_columns, blocks_for(std::int64_t{mask.block_rows} * kWarp), kThreads,
         stream, mask, crow, col);
}

bool cuda_code_loads() {
  cudaFuncAttributes attributes;
  const cudaError_t status = cudaFuncGetAttributes(&attributes, finish_twin);
  if (status == cudaErrorInvalidDeviceFunction || status == cudaErrorNoKernelImageForDevice ||
      status == cudaErrorUnsupportedPtxVersion) {
    cudaGetLastError();
    return false;
  }
  cuda_check(status, "cudaFuncGetAttributes");
  return true;
}

}  // namespace triage
