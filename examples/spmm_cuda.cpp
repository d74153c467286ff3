// C = A * B on a GPU in float16, with A block-sparse. Without a GPU it says so and ends with code 77 (skipped).
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <triage/triage.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tensor.h"

namespace {

constexpr DLDevice kGpu{kDLCUDA, 0};

void check(cudaError_t status) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(status));
  std::exit(1);
}

struct DeviceArray {
  explicit DeviceArray(std::size_t bytes) { check(cudaMalloc(&data, bytes > 0 ? bytes : 1)); }
  ~DeviceArray() { cudaFree(data); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  void* data = nullptr;
};

}  // namespace

int main() {
  if (triage::cuda_device_count() == 0) {
    std::printf("no CUDA device can be used here\n");
    return 77;
  }
  constexpr std::int64_t size = 1024, n = 256;
  constexpr int block = 64;
  try {
    // A's blocks on three diagonals, all ones; B all ones: C counts the nonzero columns of each row.
    std::vector<unsigned char> mask(size / block * size / block);
    for (std::int64_t i = 0; i < size / block; ++i) {
      for (std::int64_t j = 0; j < size / block; ++j) mask[i * (size / block) + j] = std::abs(i - j) <= 1;
    }
    const TensorView mask_view(mask.data(), DLDataType{kDLUInt, 8, 1}, {size / block, size / block});
    const triage::BlockPattern pattern = triage::BlockPattern::from_mask(mask_view, size, size, block).to(kGpu);

    const std::vector<__half> ones(size * size, __float2half(1.0f));
    const std::int64_t count = pattern.nnz_blocks() * block * block;
    const DeviceArray values(count * 2), b(size * n * 2), c(size * n * 2);
    check(cudaMemcpy(values.data, ones.data(), count * 2, cudaMemcpyHostToDevice));
    check(cudaMemcpy(b.data, ones.data(), size * n * 2, cudaMemcpyHostToDevice));
    const TensorView values_view(values.data, kFloat16, {pattern.nnz_blocks(), block, block}, kGpu);
    const TensorView b_view(b.data, kFloat16, {size, n}, kGpu), c_view(c.data, kFloat16, {size, n}, kGpu);

    const std::size_t bytes = triage::spmm_workspace_bytes(pattern, values_view, b_view, c_view);
    const DeviceArray workspace(bytes);
    cudaStream_t stream;
    check(cudaStreamCreate(&stream));
    triage::spmm(pattern, values_view, b_view, c_view, {}, {workspace.data, bytes}, stream);
    check(cudaStreamSynchronize(stream));
    check(cudaStreamDestroy(stream));

    std::vector<__half> result(size * n);
    check(cudaMemcpy(result.data(), c.data, size * n * 2, cudaMemcpyDeviceToHost));
    std::printf("%s: C[0, 0] = %g (2 blocks), C[512, 0] = %g (3 blocks)\n", triage::last_kernel().c_str(),
                __half2float(result[0]), __half2float(result[512 * n]));
    return __half2float(result[0]) == 2 * block && __half2float(result[512 * n]) == 3 * block ? 0 : 1;
  } catch (const triage::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
