// The registry's rows of block-sparse GEMM as parameters of tests: one parameter for each kernel, block size and dtype.
#pragma once

#include <gtest/gtest.h>

#include <ostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "registry/registry.h"
#include "verdict/correctness_cases.h"

namespace triage::testing {

struct KernelRow {
  std::string kernel;
  Operation operation;
  int block;
  DType dtype;
  bool gpu;

  DLDevice device() const { return gpu ? DLDevice{kDLCUDA, 0} : DLDevice{kDLCPU, 0}; }
  std::string name() const { return kernel + "_b" + std::to_string(block) + "_" + dtype_name(dtype); }
};

/// All rows of the GPU families, or all of the CPU's. Needs no GPU.
inline std::vector<KernelRow> kernel_rows(bool gpu) {
  std::vector<KernelRow> rows;
  for (const KernelReport& report : kernel_reports({kDLCPU, 0})) {
    if ((report.family != "cpu") != gpu || report.operation.rfind("sparse_gemm.", 0) != 0) continue;
    std::vector<int> blocks = {16, 32, 64, 128};
    if (report.block_size != 0) blocks = {report.block_size};
    for (const int block : blocks)
      for (const std::string& dtype : report.dtypes)
        rows.push_back({report.name, verdict::operation_from_name(report.operation), block,
                        verdict::dtype_from_name(dtype), gpu});
  }
  return rows;
}

/// Empty if the row's kernel can run here, else why not.
inline std::string obstacle(const KernelRow& row) {
  if (row.gpu && cuda_device_count() == 0) return "no CUDA device";
  for (const KernelReport& report : kernel_reports(row.device()))
    if (report.name == row.kernel) return report.can_run ? "" : report.reason;
  return "the registry has no such row";
}

inline const SparseGemmKernel& kernel_of(const KernelRow& row) {
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels())
    if (kernel->name == row.kernel) return *kernel;
  throw std::logic_error("the registry has no " + row.kernel);
}

/// Whether the row's kernel says that it takes the problem, and why not.
inline Support support_of(const KernelRow& row, const verdict::ProblemSpec& spec) {
  return judge(kernel_of(row), verdict::problem_of(spec), probe_device(row.device()));
}

inline std::string row_name(const ::testing::TestParamInfo<KernelRow>& info) { return info.param.name(); }
inline void PrintTo(const KernelRow& row, std::ostream* out) { *out << row.name(); }

}  // namespace triage::testing
