// A BLAS library of this machine (OpenBLAS, MKL or BLIS), found at run time: the CPU's dense peer.
#pragma once

#include <cstdint>
#include <string>

namespace triage::verdict {

/// Row-major C[m,n] = A[m,k] * op(B): B is [k,n], or [n,k] if `b_transposed`; lda, ldb, ldc are row strides.
struct GemmShape {
  std::int64_t m = 0, n = 0, k = 0;
  bool a_transposed = false;  ///< A is stored as [k,m]
  bool b_transposed = false;
  std::int64_t lda = 0, ldb = 0, ldc = 0;
};

class HostBlas {
 public:
  /// The library that was found, or nullptr. TRIAGE_BLAS=path names one.
  static const HostBlas* find();
  /// Why find() gives nullptr, and how to get one.
  static std::string absence();

  const std::string& name() const { return name_; }        ///< "openblas", "mkl", "blis"
  const std::string& version() const { return version_; }
  const std::string& path() const { return path_; }

  /// C = A * op(B). Sizes past the library's index type throw std::runtime_error.
  void gemm(const GemmShape& shape, const float* a, const float* b, float* c) const;
  void gemm(const GemmShape& shape, const double* a, const double* b, double* c) const;

  /// Threads that it may use from now on; no effect where the library has no such call.
  void set_threads(int threads) const;

 private:
  template <class T>
  void call(void* function, const GemmShape& shape, const T* a, const T* b, T* c) const;

  std::string name_, version_, path_;
  bool wide_index_ = false;  // ILP64: int64 sizes
  void *sgemm_ = nullptr, *dgemm_ = nullptr;
  void (*set_threads_)(int) = nullptr;
};

}  // namespace triage::verdict
