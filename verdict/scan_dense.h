// The dense product that `triage scan` measures against.
#pragma once

#include <dlpack/dlpack.h>

#include <cstdint>
#include <memory>
#include <string>

namespace triage::verdict {

/// Y[tokens, out] = X[tokens, in] * W[out, in]^T with the best dense library on this machine.
class DenseProduct {
 public:
  virtual ~DenseProduct() = default;
  virtual std::string name() const = 0;
  /// Enqueues (GPU) or runs (CPU) the product of contiguous row-major matrices of one dtype.
  virtual void run(DLDataType dtype, std::int64_t tokens, std::int64_t out, std::int64_t in, const void* x,
                   const void* w, void* y) = 0;
};

/// nullptr, with `why` set, if there is none.
std::unique_ptr<DenseProduct> find_dense_product(DLDevice device, std::string& why);

}  // namespace triage::verdict
