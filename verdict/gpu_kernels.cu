// Random operands, comparisons and the limits of the machine (see gpu_kernels.h).
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "device/cuda_check.h"
#include "device/memory.h"
#include "verdict/gpu_kernels.h"
#include "verdict/random_inputs.h"

namespace triage::verdict {
namespace {

constexpr int kThreads = 256;

cudaStream_t cuda_stream(Stream stream) { return static_cast<cudaStream_t>(stream); }

int blocks_for(std::int64_t count) {
  return static_cast<int>(std::clamp<std::int64_t>((count + kThreads - 1) / kThreads, 1, 132 * 16));
}

DLDevice current_device() {
  int ordinal = 0;
  cuda_check(cudaGetDevice(&ordinal), "cudaGetDevice");
  return {kDLCUDA, ordinal};
}

void check_launch(const char* what) { cuda_check(cudaGetLastError(), what); }

/// Calls `function` with a value of the CUDA type of `dtype`.
template <class Function>
void with_gpu_type(DType dtype, Function function) {
  if (dtype == DType::float16) return function(__half{});
  if (dtype == DType::bfloat16) return function(__nv_bfloat16{});
  throw std::runtime_error("GPU problems are float16 or bfloat16");
}

__device__ void store(__half* to, float value) { *to = __float2half_rn(value); }
__device__ void store(__nv_bfloat16* to, float value) { *to = __float2bfloat16_rn(value); }
__device__ double load(const __half* from) { return __half2float(*from); }
__device__ double load(const __nv_bfloat16* from) { return __bfloat162float(*from); }

template <class T>
__global__ void fill_centred_kernel(T* data, std::int64_t count, std::uint64_t seed) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    store(data + i, centred_value(random_bits(seed, static_cast<std::uint64_t>(i))));
  }
}

__global__ void compare_kernel(const unsigned char* a, const unsigned char* b, std::int64_t bytes, int* different) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  bool differs = false;
  for (std::int64_t i = first; i < bytes / 16; i += step) {
    const uint4 x = reinterpret_cast<const uint4*>(a)[i], y = reinterpret_cast<const uint4*>(b)[i];
    differs = differs || x.x != y.x || x.y != y.y || x.z != y.z || x.w != y.w;
  }
  for (std::int64_t i = bytes / 16 * 16 + first; i < bytes; i += step) differs = differs || a[i] != b[i];
  if (differs) *different = 1;
}

/// sums[0] += (a - b)^2, sums[1] += b^2 over all elements.
template <class T>
__global__ void difference_kernel(GpuMatrixLayout a, GpuMatrixLayout b, std::int64_t rows, std::int64_t cols, double* sums) {
  double difference = 0, norm = 0;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < rows * cols; i += step) {
    const std::int64_t row = i / cols, col = i % cols;
    const double x = load(static_cast<const T*>(a.data) + row * a.row_step + col * a.col_step);
    const double y = load(static_cast<const T*>(b.data) + row * b.row_step + col * b.col_step);
    difference += (x - y) * (x - y);
    norm += y * y;
  }
  for (int lane = 16; lane > 0; lane /= 2) {
    difference += __shfl_down_sync(0xffffffffu, difference, lane);
    norm += __shfl_down_sync(0xffffffffu, norm, lane);
  }
  if (threadIdx.x % 32 == 0) {
    atomicAdd(&sums[0], difference);
    atomicAdd(&sums[1], norm);
  }
}

constexpr int kMmaChains = 8;     // independent accumulators of a warp: enough to hide the latency of mma.sync
constexpr int kMmaSteps = 4096;

/// nvcuda::wmma compiles to mma.sync. Operands stay in registers.
__global__ void mma_sync_kernel(float* sink) {
  using namespace nvcuda;
  wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> a;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::col_major> b;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> sums[kMmaChains];
  // Numbers that differ from thread to thread: the power that zeros draw is not the power of work.
  for (int i = 0; i < a.num_elements; ++i) {
    a.x[i] = __float2half(centred_value(random_bits(1, blockIdx.x * blockDim.x + threadIdx.x + 1000003ull * i)));
    b.x[i] = __float2half(centred_value(random_bits(2, blockIdx.x * blockDim.x + threadIdx.x + 1000003ull * i)));
  }
  for (auto& sum : sums) wmma::fill_fragment(sum, 0.0f);
  for (int step = 0; step < kMmaSteps / kMmaChains; ++step) {
#pragma unroll
    for (auto& sum : sums) wmma::mma_sync(sum, a, b, sum);
  }
  float total = 0;
  for (auto& sum : sums)
    for (int i = 0; i < sum.num_elements; ++i) total += sum.x[i];
  if (total == 12345.678f) *sink = total;  // never: keeps the work from being optimised away
}

/// Milliseconds of `body` on the stream, the best of `rounds`.
template <class Body>
double best_ms(Stream stream, int rounds, const Body& body) {
  cudaEvent_t begin, end;
  cuda_check(cudaEventCreate(&begin), "cudaEventCreate");
  cuda_check(cudaEventCreate(&end), "cudaEventCreate");
  double best = std::numeric_limits<double>::infinity();
  for (int round = 0; round <= rounds; ++round) {
    cuda_check(cudaEventRecord(begin, cuda_stream(stream)), "cudaEventRecord");
    body();
    cuda_check(cudaEventRecord(end, cuda_stream(stream)), "cudaEventRecord");
    cuda_check(cudaEventSynchronize(end), "cudaEventSynchronize");
    float ms = 0;
    cuda_check(cudaEventElapsedTime(&ms, begin, end), "cudaEventElapsedTime");
    if (round > 0) best = std::min(best, static_cast<double>(ms));  // the first one warms up
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return best;
}

}  // namespace

void gpu_fill_centred(DType dtype, void* data, std::int64_t count, std::uint64_t seed, Stream stream) {
  if (count == 0) return;
  with_gpu_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    fill_centred_kernel<<<blocks_for(count), kThreads, 0, cuda_stream(stream)>>>(static_cast<T*>(data), count, seed);
  });
  check_launch("filling an operand");
}

bool gpu_same_bytes(const void* a, const void* b, std::size_t bytes, Stream stream) {
  Buffer flag(current_device(), sizeof(int), stream);
  compare_kernel<<<blocks_for(static_cast<std::int64_t>(bytes / 16)), kThreads, 0, cuda_stream(stream)>>>(
      static_cast<const unsigned char*>(a), static_cast<const unsigned char*>(b), static_cast<std::int64_t>(bytes),
      static_cast<int*>(flag.data()));
  check_launch("comparing outputs");
  int different = 0;
  copy_bytes(&different, {kDLCPU, 0}, flag.data(), current_device(), sizeof different, stream, "reading a comparison");
  synchronize(current_device(), stream);
  return different == 0;
}

double gpu_relative_difference(DType dtype, GpuMatrixLayout a, GpuMatrixLayout b, std::int64_t rows, std::int64_t cols,
                               Stream stream) {
  if (rows == 0 || cols == 0) return 0;
  Buffer sums(current_device(), 2 * sizeof(double), stream);
  with_gpu_type(dtype, [&](auto zero) {
    difference_kernel<decltype(zero)><<<blocks_for(rows * cols), kThreads, 0, cuda_stream(stream)>>>(
        a, b, rows, cols, static_cast<double*>(sums.data()));
  });
  check_launch("comparing with a peer");
  double host[2];
  copy_bytes(host, {kDLCPU, 0}, sums.data(), current_device(), sizeof host, stream, "reading a comparison");
  synchronize(current_device(), stream);
  if (!(host[0] >= 0) || !(host[1] > 0)) return host[0] == 0 ? 0 : std::numeric_limits<double>::infinity();
  return std::sqrt(host[0] / host[1]);
}

double gpu_mma_sync_tflops(Stream stream) {
  int multiprocessors = 0;
  cuda_check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, current_device().device_id),
             "cudaDeviceGetAttribute");
  Buffer sink(current_device(), sizeof(float), stream);
  const int blocks = multiprocessors * 8, warps = blocks * kThreads / 32;
  const double ms = best_ms(stream, 5, [&] {
    mma_sync_kernel<<<blocks, kThreads, 0, cuda_stream(stream)>>>(static_cast<float*>(sink.data()));
    check_launch("measuring mma.sync");
  });
  return 2.0 * 16 * 16 * 16 * kMmaSteps * warps / ms * 1e-9;
}

double gpu_copy_gbytes_per_s(Stream stream) {
  constexpr std::size_t kBytes = std::size_t{1} << 30;
  Buffer from(current_device(), kBytes, stream), to(current_device(), kBytes, stream);
  const double ms = best_ms(stream, 5, [&] {
    cuda_check(cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, cuda_stream(stream)),
               "cudaMemcpyAsync");
  });
  return 2.0 * static_cast<double>(kBytes) / ms * 1e-6;
}

}  // namespace triage::verdict
