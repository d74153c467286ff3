// cuSPARSE, found at run time: block-sparse peers on the GPU. Compiles without CUDA's headers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "device/memory.h"
#include "triage/types.h"

namespace triage::verdict {

enum class CusparseFormat { bsr, blocked_ell };

/// A sparse matrix in device memory. Blocked-ELL: `col` is [block_rows, blocks_per_row], -1 where there is no block.
struct CusparseMatrix {
  CusparseFormat format = CusparseFormat::bsr;
  std::int64_t block_rows = 0, block_cols = 0, nnz_blocks = 0, blocks_per_row = 0;
  int block = 0;
  void *crow = nullptr, *col = nullptr, *values = nullptr;
};

/// A dense matrix in device memory; `stride` is the distance between rows (row-major) or columns (column-major).
struct CusparseDense {
  std::int64_t rows = 0, cols = 0, stride = 0;
  bool row_major = true;
  void* data = nullptr;
};

class Cusparse {
 public:
  /// The library with a handle on the current device, or nullptr. Kept until the process ends.
  static Cusparse* find();
  static std::string absence();

  const std::string& version() const { return version_; }

  /// A product that is set up once (descriptors, workspace) and run many times.
  class Product {
   public:
    ~Product();
    void run(Stream stream);

   private:
    friend class Cusparse;
    Product() = default;
    Cusparse* library_ = nullptr;
    bool sampled_ = false;  // sddmm
    void *sparse_ = nullptr, *left_ = nullptr, *right_ = nullptr;
    int type_ = 0, algorithm_ = 0, right_operation_ = 0;
    Buffer workspace_;
  };

  /// C = A * B with A sparse, fp32 accumulation.
  /// @throws std::runtime_error with cuSPARSE's own words where it refuses.
  std::unique_ptr<Product> spmm(const CusparseMatrix& a, const CusparseDense& b, const CusparseDense& c,
                                const std::string& dtype, Stream stream);
  /// values of C = (X * Y^T) at C's blocks; X [M, D], Y [N, D] row-major.
  std::unique_ptr<Product> sddmm(const CusparseMatrix& c, const CusparseDense& x, const CusparseDense& y,
                                 const std::string& dtype, Stream stream);

 private:
  struct Api;
  Cusparse() = default;
  void check(int status, const char* what) const;
  void* describe(const CusparseMatrix& matrix, int type) const;
  void* describe(const CusparseDense& matrix, int type) const;

  const Api* api_ = nullptr;
  void* handle_ = nullptr;
  std::string version_;
};

}  // namespace triage::verdict
