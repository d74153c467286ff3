// The little that the examples need to hand memory to Triage: a DLPack view of a row-major array, and scratch memory.
#pragma once

#include <triage/triage.h>

#include <cstdint>
#include <cstdlib>
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

/// Scratch memory in the host's memory, aligned as Triage asks.
class HostWorkspace {
 public:
  explicit HostWorkspace(std::size_t bytes)
      : workspace_{bytes > 0 ? std::aligned_alloc(256, (bytes + 255) / 256 * 256) : nullptr, bytes} {}
  ~HostWorkspace() { std::free(workspace_.data); }
  HostWorkspace(const HostWorkspace&) = delete;
  HostWorkspace& operator=(const HostWorkspace&) = delete;
  operator triage::Workspace() const { return workspace_; }

 private:
  triage::Workspace workspace_;
};
