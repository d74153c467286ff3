// Memory and current device, alike for the host and for CUDA.
#pragma once

#include <dlpack/dlpack.h>

#include <cstddef>
#include <cstdint>

namespace triage {

inline bool on_cuda(DLDevice device) { return device.device_type == kDLCUDA; }

/// Makes a CUDA device current for a scope; does nothing for the host or if it is current already.
class DeviceGuard {
 public:
  explicit DeviceGuard(DLDevice device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = -1;  // -1: nothing to restore
};

/// Owned memory of a device, aligned to 256 bytes, zero at first.
class Buffer {
 public:
  Buffer() = default;
  /// Allocates and enqueues the clearing on `stream`. @throws Error(out_of_memory)
  Buffer(DLDevice device, std::size_t bytes, void* stream);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  DLDevice device_{kDLCPU, 0};
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Hands out pieces of one allocation, each aligned to 256 bytes; with a null base it only counts.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<char*>(base)) {}
  template <typename T>
  T* take(std::int64_t count) {
    const std::size_t begin = bytes_;
    bytes_ += (static_cast<std::size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + begin);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  char* base_;
  std::size_t bytes_ = 0;
};

/// Copies between host and CUDA memory or within either. From or to pageable host memory it may block; `what` names the
/// call in an error's sentence.
void copy_bytes(void* to, DLDevice to_device, const void* from, DLDevice from_device, std::size_t bytes, void* stream,
                const char* what);

/// Waits for the stream; nothing to do on the host.
void synchronize(DLDevice device, void* stream);

}  // namespace triage
