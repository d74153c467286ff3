// One problem of bench/shapes.cpp in the memory of its device, made for timing: large, contiguous, several copies of the
// operands. (verdict/problem.h has the guarded kind on which correctness is tried.)
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/patterns.h"
#include "device/memory.h"
#include "registry/kernel.h"
#include "triage/triage.h"
#include "verdict/receipt.h"

namespace triage::verdict {

/// "bias+gelu" and the like: whether there is a bias, and which activation.
bool epilogue_has_bias(const std::string& epilogue);
Activation epilogue_activation(const std::string& epilogue);

/// A DLTensor with the shape that it points at.
struct TensorView {
  std::int64_t shape[3] = {0, 0, 0};
  std::int64_t strides[3] = {1, 1, 1};
  DLTensor tensor{};

  TensorView(void* data, DLDevice device, DLDataType dtype, std::vector<std::int64_t> lengths);
  TensorView(const TensorView&) = delete;
  TensorView& operator=(const TensorView&) = delete;
};

/// `op`, `m`, `n`, `k` as in ReceiptShape. Operands are `copies` times in memory, so that timed calls can take turns and
/// none finds its operands in a cache.
class TimedProblem {
 public:
  struct Request {
    std::string op, dtype;
    ReceiptShape shape;      ///< nnz_blocks is set from the pattern
    DLDevice device{kDLCPU, 0};
    std::uint64_t seed = 1;
    int copies = 1;
    Stream stream = nullptr;
  };
  /// Makes the pattern of the shape's kind.
  static bench::HostPattern pattern_of(const Request& request);
  TimedProblem(const Request& request, bench::HostPattern pattern);

  const Request& request() const { return request_; }
  const ReceiptShape& shape() const { return request_.shape; }
  DType dtype() const { return dtype_; }
  const bench::HostPattern& host_pattern() const { return host_pattern_; }
  const BlockPattern& pattern() const { return pattern_; }
  std::int64_t nnz_blocks() const { return host_pattern_.nnz_blocks(); }
  int copies() const { return request_.copies; }
  bool is_sddmm() const { return request_.op == "sparse_gemm.sddmm"; }
  bool is_linear() const { return request_.op == "sparse_gemm.linear"; }

  /// Calls the library on copy `copy % copies()`; what a user would call, with everything that the call does.
  void run(int copy);
  /// NaN over the output of every copy, and over the workspace.
  void poison_outputs();

  void* values(int copy) { return buffer(values_, copy); }     ///< canonical; sddmm's output
  void* first(int copy) { return buffer(first_, copy); }       ///< B, X
  void* second(int copy) { return buffer(second_, copy); }     ///< sddmm's Y
  void* output(int copy) { return is_sddmm() ? values(copy) : buffer(output_, copy); }
  std::size_t output_elements() const;
  std::size_t output_bytes() const;
  std::size_t values_elements() const;

  /// The call as the oracle takes it, with pointers into the device's memory.
  SparseGemmCall oracle_call(int copy);

 private:
  void allocate();
  static void* buffer(std::vector<Buffer>& copies, int copy) {
    return copies[static_cast<std::size_t>(copy) % copies.size()].data();
  }

  Request request_;
  DType dtype_;
  bench::HostPattern host_pattern_;
  BlockPattern pattern_;
  Activation activation_ = Activation::none;
  std::vector<Buffer> values_, packed_, first_, second_, output_;
  Buffer bias_, workspace_;
  bool workspace_known_ = false;
};

/// How many copies of a problem's operands the timed calls should take turns on, so that they come from memory and not
/// from a cache of `cache_bytes`. 1 where the operands are much larger than the cache anyway.
int copies_for(double operand_bytes, std::size_t cache_bytes);

}  // namespace triage::verdict
