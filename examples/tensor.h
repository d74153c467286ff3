// The little that the examples need to hand memory to Triage: a DLPack view of a row-major array.
#pragma once

#include <triage/triage.h>

#include <cstdint>
#include <initializer_list>

inline constexpr DLDataType kFloat32{kDLFloat, 32, 1};
inline constexpr DLDataType kFloat16{kDLFloat, 16, 1};
inline constexpr DLDevice kHost{kDLCPU, 0};

/// A view does not own its memory. It points to its own shape, so it must outlive the call and must not be copied.
struct TensorView : DLTensor {
  TensorView(void* memory, DLDataType type, std::initializer_list<std::int64_t> sizes, DLDevice where = kHost)
      : DLTensor{} {
    for (const std::int64_t size : sizes) shape_[ndim++] = size;
    data = memory;
    device = where;
    dtype = type;
    shape = shape_;  // strides stay null: contiguous
  }
  TensorView(const TensorView&) = delete;
  TensorView& operator=(const TensorView&) = delete;

 private:
  std::int64_t shape_[3] = {};
};
