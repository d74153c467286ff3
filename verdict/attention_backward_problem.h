// The backward of attention with random operands in guarded memory: made, run through the public API, and judged.
#pragma once

#include <string>
#include <vector>

#include "verdict/attention_backward_correctness.h"
#include "verdict/attention_problem.h"

namespace triage::verdict {

/// Everything that defines a problem; replayed from its label.
struct AttentionBackwardSpec : AttentionSpec {
  bool d_lse = false;                        ///< a gradient reaches lse as well
  bool d_q = true, d_k = true, d_v = true;   ///< those that are wanted
  bool deterministic = true;

  std::string label() const;
};

/// Owns the operands on a device. O and lse are those of the oracle's plain computation, so that no forward kernel has a
/// part in what is judged. The gradients hold NaN before each run, and lie in memory otherwise than what they are
/// gradients of.
class GuardedAttentionBackward : private GuardedAttention {
 public:
  GuardedAttentionBackward(const AttentionBackwardSpec& spec, DLDevice device, Stream stream = nullptr);

  const AttentionBackwardSpec& spec() const { return backward_spec_; }
  void reset_output(Stream stream = nullptr);
  /// One call of attention_backward, asynchronous on a GPU.
  void run(Stream stream = nullptr);
  /// New values for all inputs, uploaded, and a reset. Blocking.
  void refill(std::uint64_t seed, Stream stream = nullptr);
  /// Waits, downloads and judges the gradients, the guards around every tensor and that no input was written.
  CheckResult check(const AttentionCheckOptions& options = {}, Stream stream = nullptr);
  /// All bytes of the gradients and of what lies around them.
  std::vector<unsigned char> output_bytes(Stream stream = nullptr);

  /// Elements as last downloaded (d_o: as filled), of a problem without cu_seqlens.
  double d_o_element(std::int64_t b, std::int64_t i, std::int64_t head, int column) const;
  double d_q_element(std::int64_t b, std::int64_t i, std::int64_t head, int column) const;
  double d_v_element(std::int64_t b, std::int64_t j, std::int64_t head, int column) const;

 private:
  struct BackwardArguments;
  void fill_inputs(std::uint64_t seed, Stream stream);
  AttentionBackwardCall backward_host_call() const;
  double element(const void* data, const AttentionTensor& layout, std::int64_t b, std::int64_t i, std::int64_t head,
                 int column) const;

  AttentionBackwardSpec backward_spec_;
  HeadTensor d_o_, d_q_, d_k_, d_v_;
  GuardedTensor d_lse_, d_sinks_;
  GuardedWorkspace backward_workspace_;
};

}  // namespace triage::verdict
