#include "verdict/operands.h"

#include <cstring>
#include <stdexcept>

#include "verdict/random_inputs.h"

#if TRIAGE_HAS_CUDA
#include "device/cuda_check.h"
#include "verdict/gpu_kernels.h"
#endif

namespace triage::verdict {
namespace {

[[maybe_unused]] void refuse_cuda(DLDevice device) {
  if (device.device_type != kDLCPU) throw std::runtime_error("this build holds no CUDA code");
}

}  // namespace

void fill_centred(DType dtype, void* data, std::int64_t rows, std::int64_t cols, std::uint64_t seed, DLDevice device,
                  [[maybe_unused]] Stream stream) {
  if (rows == 0 || cols == 0) return;
#if TRIAGE_HAS_CUDA
  if (device.device_type == kDLCUDA) return gpu_fill_centred(dtype, data, rows * cols, seed, stream);
#endif
  refuse_cuda(device);
  fill_random(dtype, data, rows, cols, cols, seed, ValueKind::centred);
}

void poison(void* data, std::size_t bytes, DLDevice device, [[maybe_unused]] Stream stream) {
#if TRIAGE_HAS_CUDA
  if (device.device_type == kDLCUDA) {
    cuda_check(cudaMemsetAsync(data, 0xff, bytes, static_cast<cudaStream_t>(stream)), "cudaMemsetAsync");
    return;
  }
#endif
  refuse_cuda(device);
  std::memset(data, 0xff, bytes);
}

}  // namespace triage::verdict
