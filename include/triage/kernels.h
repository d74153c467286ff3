// What the registry holds and what can run where: the facts behind `triage list`.
#pragma once

#include <string>
#include <vector>

#include "triage/types.h"

namespace triage {

/// One registry row as seen from a device.
struct KernelReport {
  std::string name;       ///< e.g. "sm80_spmm_b32"; the value that TRIAGE_FORCE_KERNEL takes
  std::string operation;  ///< e.g. "sparse_gemm.spmm"
  std::string family;     ///< "cpu", "sm80", "sm90", "sm100"
  std::vector<std::string> dtypes;
  int block_size;             ///< sparse_gemm: 0: any; attention: 0
  bool compiled;              ///< this build holds its code
  bool can_run;               ///< compiled, and the device's architecture and limits suffice
  std::string reason;         ///< why it cannot run; empty if it can
  std::string source;         ///< path of its source file in the repository
  std::string source_sha256;  ///< over that file and every project header it includes (docs/receipts.md)
  std::string head_dims;      ///< attention: "8 to 256"; empty otherwise
};

/// Every registry row, judged for `device` ({kDLCPU, 0} or {kDLCUDA, ordinal}).
std::vector<KernelReport> kernel_reports(DLDevice device);

/// Name of the kernel that served the calling thread's last successful operation (spmm, linear, sddmm, prepack,
/// attention_forward); empty before the first, and after one of size zero, which needs none.
std::string last_kernel();

/// Number of CUDA devices that can be used; 0 without a driver (never throws).
int cuda_device_count() noexcept;

/// The library's version, "major.minor.patch".
const char* version() noexcept;

}  // namespace triage
