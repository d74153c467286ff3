// Sums over rows in two steps (column_sums.h): strips of rows into fp32 partial sums, then those in their order.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>

#include "device/column_sums.h"
#include "device/cuda_check.h"
#include "device/epilogue.h"

namespace triage {

namespace {

constexpr int kLanes = 32;  // columns of a CTA
constexpr int kWarps = 8;   // rows at a time
constexpr int kRowsPerStrip = 512;
constexpr int kMaxStrips = 64;

int strips_of(const ColumnSums& sums) {
  return static_cast<int>(std::clamp<std::int64_t>((sums.rows + kRowsPerStrip - 1) / kRowsPerStrip, 1, kMaxStrips));
}

/// partial[strip][column]: the rows of a strip, first by warp, then over the warps in their order.
template <typename Element>
__global__ void __launch_bounds__(kLanes* kWarps) sum_strips(const ColumnSums sums, int strips, float* partial) {
  __shared__ float of_warp[kWarps][kLanes];
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const std::int64_t column = std::int64_t{blockIdx.x} * kLanes + lane;
  const std::int64_t rows = (sums.rows + strips - 1) / strips, first = blockIdx.y * rows;
  const std::int64_t last = first + rows < sums.rows ? first + rows : sums.rows;
  float sum = 0.0f;
  if (column < sums.cols) {
    const auto* elements = static_cast<const Element*>(sums.data) + column;
#pragma unroll 4
    for (std::int64_t r = first + warp; r < last; r += kWarps) sum += device::to_float(elements[r * sums.stride]);
  }
  of_warp[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= sums.cols) return;
  for (int w = 1; w < kWarps; w++) sum += of_warp[w][lane];
  partial[blockIdx.y * sums.cols + column] = sum;
}

template <typename Element>
__global__ void __launch_bounds__(256) add_strips(const float* partial, std::int64_t cols, int strips, Element* to) {
  const std::int64_t column = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (column >= cols) return;
  float sum = 0.0f;
  for (int strip = 0; strip < strips; strip++) sum += partial[strip * cols + column];
  to[column] = device::from_float<Element>(sum);
}

template <typename Element>
void launch(const ColumnSums& sums, void* to, float* partial, cudaStream_t stream) {
  const int strips = strips_of(sums);
  const dim3 grid(static_cast<unsigned>((sums.cols + kLanes - 1) / kLanes), static_cast<unsigned>(strips));
  sum_strips<Element><<<grid, kLanes * kWarps, 0, stream>>>(sums, strips, partial);
  cuda_check(cudaGetLastError(), "launch of the kernel that sums columns");
  add_strips<<<static_cast<unsigned>((sums.cols + 255) / 256), 256, 0, stream>>>(partial, sums.cols, strips,
                                                                                 static_cast<Element*>(to));
  cuda_check(cudaGetLastError(), "launch of the kernel that adds up sums of columns");
}

}  // namespace

std::size_t sum_columns_cuda_workspace_bytes(const ColumnSums& sums) {
  return static_cast<std::size_t>(strips_of(sums)) * static_cast<std::size_t>(sums.cols) * sizeof(float);
}

void sum_columns_cuda(const ColumnSums& sums, void* to, void* workspace, void* stream) {
  auto* partial = static_cast<float*>(workspace);
  const auto on = static_cast<cudaStream_t>(stream);
  sums.bfloat16 ? launch<__nv_bfloat16>(sums, to, partial, on) : launch<__half>(sums, to, partial, on);
}

}  // namespace triage
