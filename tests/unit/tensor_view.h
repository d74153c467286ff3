// DLTensor views for tests: shape and strides that live as long as the view.
#pragma once

#include <dlpack/dlpack.h>

#include <cstdint>
#include <vector>

namespace triage::test {

template <typename T>
constexpr DLDataType dtype_of();
template <>
constexpr DLDataType dtype_of<std::int32_t>() {
  return {kDLInt, 32, 1};
}
template <>
constexpr DLDataType dtype_of<std::int64_t>() {
  return {kDLInt, 64, 1};
}
template <>
constexpr DLDataType dtype_of<std::uint8_t>() {
  return {kDLUInt, 8, 1};
}
template <>
constexpr DLDataType dtype_of<float>() {
  return {kDLFloat, 32, 1};
}
template <>
constexpr DLDataType dtype_of<double>() {
  return {kDLFloat, 64, 1};
}
template <>
constexpr DLDataType dtype_of<std::uint16_t>() {
  return {kDLFloat, 16, 1};
}  // the bits of a float16

struct View {
  std::vector<std::int64_t> shape, strides;  // no strides: compact
  DLTensor fields{};

  View(void* data, DLDataType dtype, std::vector<std::int64_t> shape_, std::vector<std::int64_t> strides_ = {},
       DLDevice device = {kDLCPU, 0})
      : shape(std::move(shape_)), strides(std::move(strides_)) {
    fields.data = data;
    fields.dtype = dtype;
    fields.device = device;
    fields.ndim = static_cast<int>(shape.size());
    point();
  }
  View(const View& other) : shape(other.shape), strides(other.strides), fields(other.fields) { point(); }
  View& operator=(const View&) = delete;
  operator const DLTensor&() const { return fields; }

 private:
  void point() {
    fields.shape = shape.data();
    fields.strides = strides.empty() ? nullptr : strides.data();
  }
};

template <typename T>
View view(const std::vector<T>& data, std::vector<std::int64_t> shape, std::vector<std::int64_t> strides = {}) {
  return View(const_cast<T*>(data.data()), dtype_of<T>(), std::move(shape), std::move(strides));
}

template <typename T>
View view(const std::vector<T>& data) {
  return view(data, {static_cast<std::int64_t>(data.size())});
}

}  // namespace triage::test
