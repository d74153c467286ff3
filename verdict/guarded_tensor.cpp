#include "verdict/guarded_tensor.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "verdict/random_inputs.h"

namespace triage::verdict {
namespace {

constexpr std::size_t kWorkspaceCanary = 4096;  // bytes; a multiple of the 256 that workspaces are aligned to
constexpr unsigned char kWorkspaceByte = 0xff;  // NaN in every floating-point format, -1 as an index

}  // namespace

GuardedTensor::GuardedTensor(std::string name, DLDevice device, DType dtype, std::vector<std::int64_t> shape,
                             std::int64_t stride, std::int64_t offset, std::uint64_t seed)
    : name_(std::move(name)), device_(device), dtype_(dtype), shape_(std::move(shape)) {
  strides_.assign(shape_.size(), 1);
  for (std::size_t d = shape_.size(); d-- > 1;) strides_[d - 1] = strides_[d] * std::max<std::int64_t>(shape_[d], 1);
  if (stride != 0) strides_[0] = stride;
  rows_ = shape_[0];
  stride_ = shape_.size() == 1 ? 1 : strides_[0];
  row_length_ = 1;
  for (std::size_t d = 1; d < shape_.size(); ++d) row_length_ *= shape_[d];
  element_bytes_ = static_cast<std::size_t>(dtype_bytes(dtype));
  const std::int64_t spanned = rows_ == 0 ? 0 : (rows_ - 1) * stride_ + row_length_;
  const std::int64_t elements = kCanaryElements + offset + spanned + kCanaryElements;
  first_byte_ = static_cast<std::size_t>(kCanaryElements + offset) * element_bytes_;
  image_.resize(static_cast<std::size_t>(elements) * element_bytes_);
  fill_poison(dtype, image_.data(), elements, seed);
  buffer_ = Buffer(device, image_.size(), nullptr);
  synchronize(device, nullptr);  // its clearing must not overtake an upload on another stream
}

DLTensor GuardedTensor::view() const {
  DLTensor tensor{};
  tensor.data = static_cast<unsigned char*>(buffer_.data()) + first_byte_;
  tensor.device = device_;
  tensor.ndim = static_cast<int>(shape_.size());
  tensor.dtype = dlpack_dtype(dtype_);
  tensor.shape = const_cast<std::int64_t*>(shape_.data());
  tensor.strides = const_cast<std::int64_t*>(strides_.data());
  return tensor;
}

void GuardedTensor::upload(void* stream) {
  copy_bytes(buffer_.data(), device_, image_.data(), {kDLCPU, 0}, image_.size(), stream, "upload of a test tensor");
  synchronize(device_, stream);
}

void GuardedTensor::poison(std::uint64_t seed, void* stream) {
  std::vector<unsigned char> row(static_cast<std::size_t>(row_length_) * element_bytes_);
  for (std::int64_t r = 0; r < rows_; ++r) {
    fill_poison(dtype_, row.data(), row_length_, seed + static_cast<std::uint64_t>(r));
    std::memcpy(image_.data() + first_byte_ + static_cast<std::size_t>(r * stride_) * element_bytes_, row.data(), row.size());
  }
  upload(stream);
}

void GuardedTensor::download(void* stream) {
  after_.resize(image_.size());
  copy_bytes(after_.data(), {kDLCPU, 0}, buffer_.data(), device_, image_.size(), stream, "download of a test tensor");
  synchronize(device_, stream);
}

std::string GuardedTensor::damage(bool constant) const {
  const auto same = [&](std::size_t begin, std::size_t end) {
    return std::memcmp(image_.data() + begin, after_.data() + begin, end - begin) == 0;
  };
  if (!same(0, first_byte_)) return name_ + ": something was written before its first element";
  const std::size_t row_bytes = static_cast<std::size_t>(row_length_) * element_bytes_;
  for (std::int64_t r = 0; r < rows_; ++r) {
    const std::size_t begin = first_byte_ + static_cast<std::size_t>(r * stride_) * element_bytes_, end = begin + row_bytes;
    if (constant && !same(begin, end)) return name_ + ": row " + std::to_string(r) + " of an operand was written";
    const std::size_t next = r + 1 < rows_ ? begin + static_cast<std::size_t>(stride_) * element_bytes_ : image_.size();
    if (same(end, next)) continue;
    return name_ + (r + 1 < rows_ ? ": something was written into the gap after row " + std::to_string(r)
                                  : ": something was written after its last element");
  }
  return rows_ > 0 || same(0, image_.size()) ? "" : name_ + ": something was written though it is empty";
}

GuardedWorkspace::GuardedWorkspace(DLDevice device, std::size_t bytes, void* stream)
    : device_(device), bytes_(bytes), buffer_(device, bytes + 2 * kWorkspaceCanary, stream) {
  synchronize(device, stream);
  poison(stream);
}

Workspace GuardedWorkspace::view() const {
  return {bytes_ == 0 ? nullptr : static_cast<unsigned char*>(buffer_.data()) + kWorkspaceCanary, bytes_};
}

void GuardedWorkspace::poison(void* stream) {
  const std::vector<unsigned char> image(buffer_.bytes(), kWorkspaceByte);
  copy_bytes(buffer_.data(), device_, image.data(), {kDLCPU, 0}, image.size(), stream, "poisoning of the workspace");
  synchronize(device_, stream);
}

std::string GuardedWorkspace::damage(void* stream) const {
  if (buffer_.bytes() == 0) return "";
  unsigned char canaries[2][kWorkspaceCanary];
  const auto* memory = static_cast<const unsigned char*>(buffer_.data());
  copy_bytes(canaries[0], {kDLCPU, 0}, memory, device_, kWorkspaceCanary, stream, "workspace canaries");
  copy_bytes(canaries[1], {kDLCPU, 0}, memory + kWorkspaceCanary + bytes_, device_, kWorkspaceCanary, stream,
             "workspace canaries");
  synchronize(device_, stream);
  const auto intact = [](const unsigned char (&canary)[kWorkspaceCanary]) {
    return std::all_of(std::begin(canary), std::end(canary), [](unsigned char byte) { return byte == kWorkspaceByte; });
  };
  if (!intact(canaries[0])) return "workspace: something was written before it";
  if (!intact(canaries[1])) return "workspace: something was written after it";
  return "";
}

}  // namespace triage::verdict
