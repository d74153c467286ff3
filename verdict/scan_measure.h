// Times `linear` with a weight's blocks beside the dense product with the whole weight, on this machine.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "device/memory.h"
#include "triage/triage.h"
#include "verdict/receipt.h"
#include "verdict/scan_blocks.h"
#include "verdict/scan_dense.h"

namespace triage::verdict {

/// Whether sparse beat dense; `unclear` where the spreads of the two times overlap.
enum class Verdict { yes, no, unclear, not_measured };
const char* verdict_name(Verdict verdict);

/// One pattern of one weight, timed.
struct Measurement {
  int block = 0;
  double density = 0;
  std::int64_t nnz_blocks = 0;
  std::string kernel;  ///< that served `linear`
  std::optional<ReceiptTime> sparse;
  std::optional<ReceiptTime> dense;            ///< absent if no dense library was found
  std::string not_measured;                    ///< why `sparse` or `dense` is absent
  bool correct = true;                         ///< sampled outputs agree with a product in double precision
  std::string wrong;                           ///< the first that does not
  double error_squared = 0, norm_squared = 0;  ///< of sparse output minus dense output, and of the dense output

  double speedup() const;  ///< dense time / sparse time; 0 if either is absent
  Verdict verdict() const;
  double output_error() const;  ///< relative Frobenius; NaN where it is not known
};

/// Holds a weight, random activations and both outputs in the device's memory.
class LinearBench {
 public:
  /// @param tokens rows of the activations: standard normal numbers, the same in every run.
  LinearBench(DLDevice device, std::int64_t tokens);
  ~LinearBench();

  /// float32 on the CPU; on a GPU float16 for weights stored so, else bfloat16.
  static const char* dtype_for(DLDevice device, io::TensorDtype stored);
  std::string device_name() const;
  std::string dense_name() const;     ///< e.g. "openblas 0.3.21"; empty if there is none
  std::string dense_absence() const;  ///< why there is none

  /// Makes `weight` the one that is measured. Says why it cannot be (memory), or nothing.
  std::string load(const WeightMatrix& weight);
  /// The same with random numbers.
  std::string load_random(std::int64_t rows, std::int64_t cols);

  /// Times the loaded weight's `blocks` against all of it. Full patterns of equal shape share one measurement.
  Measurement measure(const BlockList& blocks);

 private:
  struct Operand;
  std::string allocate(std::int64_t rows, std::int64_t cols, const char* dtype);
  Measurement measure_now(const BlockList& blocks);

  DLDevice device_;
  std::int64_t tokens_;
  std::unique_ptr<DenseProduct> dense_;
  std::unique_ptr<Operand> weight_, x_, y_sparse_, y_dense_;
  std::vector<float> host_weight_, host_x_;  // as the device sees them (rounded)
  std::string dtype_;
  std::map<std::string, Measurement> full_;
};

}  // namespace triage::verdict
