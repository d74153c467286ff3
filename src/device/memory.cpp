#include "device/memory.h"

#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "triage/error.h"

#if TRIAGE_HAS_CUDA
#include "device/cuda_check.h"
#endif

namespace triage {

namespace {

constexpr std::align_val_t kAlignment{256};

[[maybe_unused]] [[noreturn]] void no_cuda() {
  throw Error(ErrorCode::unsupported, "this build of Triage holds no CUDA code");
}

}  // namespace

#if TRIAGE_HAS_CUDA
DeviceGuard::DeviceGuard(DLDevice device) {
  if (!on_cuda(device)) return;
  int current = 0;
  cuda_check(cudaGetDevice(&current), "cudaGetDevice");
  if (current == device.device_id) return;
  cuda_check(cudaSetDevice(device.device_id), "cudaSetDevice");
  previous_ = current;
}

DeviceGuard::~DeviceGuard() {
  if (previous_ >= 0) cudaSetDevice(previous_);
}
#else
DeviceGuard::DeviceGuard(DLDevice device) {
  if (on_cuda(device)) no_cuda();
}

DeviceGuard::~DeviceGuard() = default;
#endif

Buffer::Buffer(DLDevice device, std::size_t bytes, [[maybe_unused]] void* stream) : device_(device), bytes_(bytes) {
  if (bytes == 0) return;
  if (!on_cuda(device)) {
    data_ = ::operator new(bytes, kAlignment, std::nothrow);
    if (data_ == nullptr) {
      throw Error(ErrorCode::out_of_memory, "cannot allocate " + std::to_string(bytes) + " bytes of host memory");
    }
    std::memset(data_, 0, bytes);
    return;
  }
#if TRIAGE_HAS_CUDA
  const DeviceGuard guard(device);
  const std::string what = "cudaMalloc of " + std::to_string(bytes) + " bytes";
  cuda_check(cudaMalloc(&data_, bytes), what.c_str());
  const cudaError_t status = cudaMemsetAsync(data_, 0, bytes, static_cast<cudaStream_t>(stream));
  if (status != cudaSuccess) cudaFree(data_);
  cuda_check(status, "cudaMemsetAsync");
#else
  no_cuda();
#endif
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  if (!on_cuda(device_)) {
    ::operator delete(data_, kAlignment);
    return;
  }
#if TRIAGE_HAS_CUDA
  // Destructors report nothing: at exit the runtime may be gone before the last pattern.
  int current = 0;
  if (cudaGetDevice(&current) != cudaSuccess) return;
  if (current != device_.device_id) cudaSetDevice(device_.device_id);
  cudaFree(data_);
  if (current != device_.device_id) cudaSetDevice(current);
#endif
}

Buffer::Buffer(Buffer&& other) noexcept
    : device_(other.device_), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void copy_bytes(void* to, DLDevice to_device, const void* from, DLDevice from_device, std::size_t bytes,
                [[maybe_unused]] void* stream, [[maybe_unused]] const char* what) {
  if (bytes == 0) return;
  if (!on_cuda(to_device) && !on_cuda(from_device)) {
    std::memcpy(to, from, bytes);
    return;
  }
#if TRIAGE_HAS_CUDA
  cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, static_cast<cudaStream_t>(stream)), what);
#else
  no_cuda();
#endif
}

void synchronize(DLDevice device, [[maybe_unused]] void* stream) {
  if (!on_cuda(device)) return;
#if TRIAGE_HAS_CUDA
  cuda_check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "cudaStreamSynchronize");
#else
  no_cuda();
#endif
}

}  // namespace triage
