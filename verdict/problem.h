// A sparse product with random operands in guarded memory: made, run through the public API, and judged.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/patterns.h"
#include "triage/triage.h"
#include "verdict/correctness.h"
#include "verdict/guarded_tensor.h"
#include "verdict/random_inputs.h"

namespace triage::verdict {

/// Everything that defines a problem. Sizes are those of SparseGemmProblem: the sparse matrix is rows x cols, `dense`
/// the columns of B (spmm), the tokens (linear) or the inner dimension (sddmm).
struct ProblemSpec {
  Operation operation = Operation::spmm;
  DType dtype = DType::float32;
  int block = 32;
  std::int64_t rows = 0, cols = 0, dense = 0;
  bench::HostPattern pattern;
  std::string pattern_name;  ///< for the label

  float alpha = 1, beta = 0;  ///< spmm, sddmm
  bool bias = false;          ///< linear
  Activation activation = Activation::none;
  SddmmLayout sddmm_layout = SddmmLayout::x_yt;
  ValuesLayout values_layout = ValuesLayout::canonical;
  /// spmm, linear: computed as the gradient by the dense operand of a product with the transposed matrix, of which the
  /// library is given the pattern and the values. Canonical values, no bias, no activation; linear: no alpha.
  bool input_gradient = false;

  ValueKind values = ValueKind::centred;
  std::int64_t extra_stride = 0;     ///< elements between the end of a row and the next, in every matrix
  std::int64_t offset = 0;           ///< elements by which every matrix is off the 256-byte boundary
  std::int64_t stride_multiple = 1;  ///< every matrix's stride is rounded up to a multiple of this, in elements
  std::uint64_t seed = 1;

  /// One line that names all of this; enough to make the problem again.
  std::string label() const;
};

/// What selection sees of the problem: whether a kernel takes it can be asked (registry/registry.h, judge) without
/// making it.
SparseGemmProblem problem_of(const ProblemSpec& spec);

/// Owns the operands on a device. The output holds NaN (or, for beta != 0, random values) before each run.
class Problem {
 public:
  /// Makes, fills and uploads everything, packed values included. @throws triage::Error
  Problem(const ProblemSpec& spec, DLDevice device, Stream stream = nullptr);

  const ProblemSpec& spec() const { return spec_; }
  const BlockPattern& pattern() const { return pattern_; }

  /// Puts the output back into its state before a run, and NaN into the workspace. Blocking.
  void reset_output(Stream stream = nullptr);
  /// One call of the operation, asynchronous on a GPU. The workspace is made with the problem.
  void run(Stream stream = nullptr);
  /// New values for all inputs (and the same pattern), uploaded. Blocking.
  void refill(std::uint64_t seed, Stream stream = nullptr);

  /// Waits, downloads and judges the output, the guards around every tensor and that no input was written.
  CheckResult check(const CheckOptions& options = {}, Stream stream = nullptr);
  /// All bytes of the output and of what lies around it, to compare runs bit for bit.
  std::vector<unsigned char> output_bytes(Stream stream = nullptr);

  /// Host images of the operands, to plant special values; upload_inputs() makes them count.
  GuardedTensor& values() { return values_; }
  GuardedTensor& in0() { return in0_; }
  GuardedTensor& in1() { return in1_; }
  GuardedTensor& bias() { return bias_; }
  GuardedTensor& output() { return spec_.operation == Operation::sddmm ? values_ : out_; }
  void upload_inputs(Stream stream = nullptr);

  /// The call as the oracle reads it: all pointers in host memory.
  SparseGemmCall host_call() const;

 private:
  void fill(std::uint64_t seed);
  void pack(Stream stream);
  void turn_values();
  std::size_t workspace_bytes() const;

  ProblemSpec spec_;
  DLDevice device_;
  BlockPattern pattern_;
  GuardedTensor values_, packed_, turned_, in0_, in1_, out_, bias_;
  GuardedWorkspace workspace_;
};

}  // namespace triage::verdict
