// Times `linear` with a weight's blocks beside the dense product with the whole weight, on this machine and as
// `triage verdict` does it: same operands in memory, same peers, same stopwatch.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "device/memory.h"
#include "triage/triage.h"
#include "verdict/job_context.h"
#include "verdict/receipt.h"
#include "verdict/scan_blocks.h"

namespace triage::verdict {

/// Whether sparse beat dense; `unclear` where the spreads of the two times overlap, or other programs disturbed them.
enum class Verdict { yes, no, unclear, not_measured };
const char* verdict_name(Verdict verdict);

/// One pattern of one weight, timed.
struct Measurement {
  int block = 0;
  double density = 0;
  std::int64_t nnz_blocks = 0;
  std::string kernel;  ///< that served `linear`
  std::string layout;  ///< of the values: canonical or packed
  std::optional<ReceiptTime> sparse;
  std::optional<ReceiptTime> dense;            ///< absent if no dense library was found
  double other_cores = 0;                      ///< CPU cores that other programs kept busy meanwhile
  bool disturbed = false;                      ///< by those, so much that the times say nothing
  std::string not_measured;                    ///< why `dense` is absent
  std::string wrong;                           ///< the first sampled output that double precision contradicts; or empty
  double error_squared = 0, norm_squared = 0;  ///< of sparse output minus dense output, and of the dense output

  double speedup() const;  ///< dense time / sparse time; 0 if either is absent
  Verdict verdict() const;
  double output_error() const;  ///< relative Frobenius; NaN where it is not known
};

/// Multiplies one weight after the other, with all and with some of its blocks, in the memory of one device.
class LinearBench {
 public:
  /// @param tokens rows of the activations: standard normal numbers, the same in every run.
  LinearBench(DLDevice device, std::int64_t tokens);
  ~LinearBench();

  /// float32 on the CPU; on a GPU float16 for weights stored so, else bfloat16.
  static const char* dtype_for(DLDevice device, io::TensorDtype stored);
  std::string device_name() const;
  const std::string& dense_name() const { return dense_name_; }        ///< e.g. "openblas_dense 0.3.21"; empty: none
  const std::string& dense_absence() const { return dense_absence_; }  ///< why there is none

  /// Makes `weight` the one that is measured. Says why it cannot be (memory), or nothing.
  std::string load(const WeightMatrix& weight);

  /// Times the loaded weight's `blocks` beside a dense product of the same size, and compares the outputs of both. Full
  /// patterns of equal shape share one measurement.
  Measurement measure(const BlockList& blocks);

  /// Times a pattern beside the dense product; the numbers multiplied are random.
  Measurement time(const BlockList& blocks, const std::string& dtype);

 private:
  struct Operand;
  std::string obstacle(std::int64_t rows, std::int64_t cols, const std::string& dtype) const;
  std::vector<float> product(const BlockList& blocks);
  std::string first_wrong_output(const BlockList& blocks, const std::vector<float>& y) const;

  JobContext context_;
  DLDevice device_;
  std::int64_t tokens_;
  std::string dense_name_, dense_absence_;
  std::unique_ptr<Operand> weight_, x_, y_;
  std::string dtype_;
  std::vector<float> host_weight_, host_x_;  // as the device sees them (rounded)
  std::vector<float> dense_output_;          // with all of the loaded weight, once it was needed
  std::map<std::string, Measurement> full_;  // by shape, block and dtype
};

}  // namespace triage::verdict
