// The shape of a registry row: what every kernel tells about itself and how it is called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "device/schedule.h"
#include "registry/device.h"
#include "triage/sparse_gemm.h"

namespace triage {

enum class DType { float16, bfloat16, float32, float64 };
enum class Operation { spmm, linear, sddmm };
/// `user`: not Triage's own; runs where its can_run says.
enum class Family { cpu, sm80, sm90, sm100, user };

/// Whether a kernel takes a problem; `reason` is a clause that completes "<kernel> cannot run: ...".
struct Support {
  bool ok = true;
  std::string reason;
};

/// A row-major matrix as the kernels see it: stride in elements, inner stride 1.
struct Matrix {
  void* data = nullptr;
  std::int64_t rows = 0, cols = 0, stride = 0;
};

/// Everything that selection may look at. The sparse matrix has `rows` x `cols` elements; `dense` counts the columns of
/// B (spmm), the tokens (linear) or the inner dimension (sddmm).
struct SparseGemmProblem {
  Operation operation = Operation::spmm;
  DType dtype = DType::float16;
  int block = 0;
  std::int64_t rows = 0, cols = 0, dense = 0, nnz_blocks = 0;
  ValuesLayout values_layout = ValuesLayout::canonical;
  SddmmLayout sddmm_layout = SddmmLayout::x_yt;
  // All pointers 16-byte aligned and all strides multiples of 8 elements: what TMA and 16-byte copies need.
  bool aligned16 = true;
};

/// A validated call. Which fields are used depends on the operation:
///   spmm:   out[rows, dense] = alpha * S * in0[cols, dense] + beta * out
///   linear: out[dense, rows] = act(in0[dense, cols] * S^T + bias[rows])
///   sddmm:  values[nnz, b, b] = alpha * in0 (*) in1 at the pattern + beta * values
struct SparseGemmCall {
  SparseGemmProblem problem;
  PatternView pattern;
  ScheduleView schedule;  ///< built to the kernel's own spec; empty if it has none
  void* values = nullptr;
  Matrix in0, in1, out;
  const void* bias = nullptr;
  float alpha = 1.0f, beta = 0.0f;
  Activation activation = Activation::none;
  Workspace workspace;
  void* stream = nullptr;  ///< cudaStream_t
  const Device* device = nullptr;
};

/// One row. `launch` is nullptr when this build does not hold the kernel's code (no CUDA compiler).
struct SparseGemmKernel {
  const char* name;
  Operation operation;
  Family family;
  int block;           ///< 0: any
  const char* dtypes;  ///< space-separated, for people: "float16 bfloat16"
  const char* source;  ///< path in the repository, for the receipts' hash
  Support (*can_run)(const SparseGemmProblem&, const Device&);
  /// The schedule that the kernel reads of such a pattern on this device; nullopt if it reads only the pattern.
  std::optional<ScheduleSpec> (*schedule)(const PatternShape&, const Device&);
  /// Bytes of workspace. `schedule` tells how many split slots there are.
  std::size_t (*workspace_bytes)(const SparseGemmProblem&, const Device&, const ScheduleView& schedule);
  /// Enqueues the work. Throws Error(cuda) if a launch is refused.
  void (*launch)(const SparseGemmCall&);
  /// Reorders canonical values (call.values) for ValuesLayout::packed; nullptr if the kernel reads only canonical
  /// values. Only problem, pattern, schedule, values, stream and device of the call are set; problem.dense is unknown.
  void (*prepack)(const SparseGemmCall& call, void* packed);
};

}  // namespace triage
