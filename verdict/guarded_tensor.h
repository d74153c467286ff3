// Tensors that notice when a kernel writes where it must not, or reads what it must not.
#pragma once

#include <dlpack/dlpack.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "device/memory.h"
#include "registry/kernel.h"

namespace triage::verdict {

inline constexpr std::int64_t kCanaryElements = 512;

/// Row-major tensor in host or CUDA memory. Everything around its elements (512 elements before and after, and the gaps
/// between rows if the stride is larger than a row) holds NaNs of many bit patterns, as do the elements until they are
/// filled. The host keeps an image of all of it.
class GuardedTensor {
 public:
  GuardedTensor() = default;
  /// @param shape one to three dimensions; the last ones are contiguous.
  /// @param stride elements between rows of a two-dimensional tensor, at least a row's length; 0: contiguous.
  /// @param offset elements by which the first is off the 256-byte boundary.
  GuardedTensor(std::string name, DLDevice device, DType dtype, std::vector<std::int64_t> shape, std::int64_t stride = 0,
                std::int64_t offset = 0, std::uint64_t seed = 1);
  GuardedTensor(GuardedTensor&&) noexcept = default;
  GuardedTensor& operator=(GuardedTensor&&) noexcept = default;

  /// First element in the host image: write here, then upload.
  void* host() { return image_.data() + first_byte_; }
  const void* host() const { return image_.data() + first_byte_; }
  std::int64_t stride() const { return stride_; }
  DLTensor view() const;

  /// Image to device; `stream` has passed when it returns.
  void upload(void* stream);
  /// Fills the elements with NaNs in image and device alike.
  void poison(std::uint64_t seed, void* stream);
  /// Device to a second image, which `downloaded` then points into.
  void download(void* stream);
  const void* downloaded() const { return after_.data() + first_byte_; }
  const std::vector<unsigned char>& downloaded_bytes() const { return after_; }

  /// After `download`: a sentence if anything but elements differs from the image; if `constant`, elements too.
  std::string damage(bool constant) const;

 private:
  std::string name_;
  DLDevice device_{kDLCPU, 0};
  DType dtype_ = DType::float32;
  std::vector<std::int64_t> shape_, strides_;
  std::int64_t rows_ = 0, row_length_ = 0, stride_ = 0;
  std::size_t element_bytes_ = 0, first_byte_ = 0;
  std::vector<unsigned char> image_, after_;
  Buffer buffer_;
};

/// Scratch memory between canaries, poisoned with NaN bytes.
class GuardedWorkspace {
 public:
  GuardedWorkspace() = default;
  GuardedWorkspace(DLDevice device, std::size_t bytes, void* stream);
  Workspace view() const;
  void poison(void* stream);
  /// A sentence if a canary is gone; empty if not.
  std::string damage(void* stream) const;

 private:
  DLDevice device_{kDLCPU, 0};
  std::size_t bytes_ = 0;
  Buffer buffer_;
};

}  // namespace triage::verdict
