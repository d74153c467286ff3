// cuBLAS, found at run time: the GPU's dense peer. Compiles without CUDA's headers.
#pragma once

#include <string>
#include <vector>

#include "triage/types.h"
#include "verdict/host_blas.h"

namespace triage::verdict {

/// Paths where a CUDA library may lie: the loader's own, the toolkit's, and Python's `nvidia` packages.
std::vector<std::string> cuda_library_candidates(const std::string& name, const std::vector<int>& major_versions);

class Cublas {
 public:
  /// The library with a handle on the current device, or nullptr. Kept until the process ends.
  static Cublas* find();
  /// Why find() gives nullptr, and how to get it.
  static std::string absence();

  const std::string& version() const { return version_; }

  /// Row-major C = op(A) * op(B) of float16 or bfloat16 with fp32 accumulation, enqueued on `stream`; can be captured.
  /// `shape` as for HostBlas.
  /// @throws std::runtime_error with cuBLAS's status
  void gemm(const GemmShape& shape, const std::string& dtype, const void* a, const void* b, void* c, Stream stream);

 private:
  struct Api;
  Cublas() = default;

  const Api* api_ = nullptr;
  void* handle_ = nullptr;
  void* workspace_ = nullptr;
  std::string version_;
};

/// cudaDataType_t of "float16" or "bfloat16", as both libraries take it.
int cuda_data_type(const std::string& dtype);

}  // namespace triage::verdict
