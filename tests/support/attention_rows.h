// The registry's rows of attention as parameters of tests: one parameter for each kernel and dtype.
#pragma once

#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "registry/attention_registry.h"
#include "registry/registry.h"
#include "verdict/correctness_cases.h"

namespace triage::testing {

struct AttentionKernelRow {
  std::string kernel;
  DType dtype;
  bool gpu;

  DLDevice device() const { return gpu ? DLDevice{kDLCUDA, 0} : DLDevice{kDLCPU, 0}; }
  std::string name() const { return kernel + "_" + dtype_name(dtype); }
};

template <typename Kernels>
std::vector<AttentionKernelRow> rows_of(const Kernels& kernels, bool gpu) {
  std::vector<AttentionKernelRow> rows;
  for (const auto* kernel : kernels) {
    if ((kernel->family != Family::cpu) != gpu) continue;
    for (const std::string& dtype : split_words(kernel->dtypes))
      rows.push_back({kernel->name, verdict::dtype_from_name(dtype), gpu});
  }
  return rows;
}

/// All rows of the GPU families, or all of the CPU's. Needs no GPU.
inline std::vector<AttentionKernelRow> attention_rows(bool gpu) { return rows_of(attention_kernels(), gpu); }
inline std::vector<AttentionKernelRow> attention_backward_rows(bool gpu) {
  return rows_of(attention_backward_kernels(), gpu);
}

/// Empty if the row's kernel can run here, else why not.
inline std::string obstacle(const AttentionKernelRow& row) {
  if (row.gpu && cuda_device_count() == 0) return "no CUDA device";
  for (const KernelReport& report : kernel_reports(row.device()))
    if (report.name == row.kernel) return report.can_run ? "" : report.reason;
  return "the registry has no such row";
}

inline std::string attention_row_name(const ::testing::TestParamInfo<AttentionKernelRow>& info) {
  return info.param.name();
}
inline void PrintTo(const AttentionKernelRow& row, std::ostream* out) { *out << row.name(); }

}  // namespace triage::testing
