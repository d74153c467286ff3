// One problem of bench/attention_shapes.cpp in the memory of its device, made for timing: large, contiguous [batch,
// sequence, heads, head_dim], several copies of the operands. (verdict/attention_problem.h has the guarded kind on
// which correctness is tried.)
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bench/attention_shapes.h"
#include "device/memory.h"
#include "registry/attention_kernel.h"
#include "triage/triage.h"
#include "verdict/attention_backward_correctness.h"
#include "verdict/attention_mask.h"

namespace triage::verdict {

class TimedAttention {
 public:
  TimedAttention(const bench::AttentionShape& shape, DLDevice device, std::uint64_t seed, int copies, Stream stream);

  int copies() const { return static_cast<int>(q_.size()); }
  /// Calls the library on copy `copy % copies()`; what a user would call, with everything that the call does.
  void run(int copy);
  /// NaN over O and lse of every copy, and over the workspace.
  void poison_outputs();
  /// Downloads one copy and judges it; waits. @param operations what the oracle may spend.
  CheckResult check(int copy, double operations, std::uint64_t seed);
  std::size_t output_bytes() const;
  void* output(int copy) { return o_[static_cast<std::size_t>(copy)].data(); }

  /// One copy's operands, for peers: contiguous, lse [batch, heads, seqlen_q].
  struct Tensors {
    const void *q, *k, *v;
    void *o, *lse;
  };
  Tensors tensors(int copy);
  const bench::AttentionShape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  DLDevice device() const { return device_; }
  Stream stream() const { return stream_; }

 private:
  friend class TimedAttentionBackward;
  struct Arguments;
  /// One copy in host memory, with the call that describes it.
  struct HostCopy {
    std::vector<char> q, k, v, o, lse, sinks;
    AttentionCall call;
  };
  HostCopy download_copy(int copy) const;
  Buffer make(std::size_t bytes) const;
  Buffer upload(const std::vector<std::int32_t>& data) const;
  std::vector<char> download(const Buffer& buffer) const;

  bench::AttentionShape shape_;
  DType dtype_;
  DLDevice device_;
  Stream stream_;
  std::int64_t pages_ = 0;
  std::vector<Buffer> q_, k_, v_, o_, lse_;
  std::vector<std::int32_t> cu_q_, cu_k_, used_k_, table_;
  Buffer cu_q_buffer_, cu_k_buffer_, used_k_buffer_, table_buffer_, sinks_, workspace_;
  GuardedPattern blocks_;
};

/// The backward of the same problem: O and lse are what the library's forward makes of it, by whichever kernel serves
/// it. (TRIAGE_FORCE_KERNEL names the backward's kernel, and counts for that alone.) The gradients of a copy are one
/// output: d_q, then d_k, d_v and d_sinks.
class TimedAttentionBackward {
 public:
  TimedAttentionBackward(const bench::AttentionShape& shape, DLDevice device, std::uint64_t seed, int copies,
                         Stream stream);

  int copies() const { return forward_->copies(); }
  void run(int copy);
  void poison_outputs();
  CheckResult check(int copy, double operations, std::uint64_t seed);
  std::size_t output_bytes() const { return gradients_.front().bytes(); }
  void* output(int copy) { return gradients_[static_cast<std::size_t>(copy)].data(); }

  /// For peers: the forward, whose O and lse are there, d_o of a copy, and its d_q (0), d_k (1) or d_v (2).
  TimedAttention& forward() { return *forward_; }
  const void* d_o(int copy) { return d_o_[static_cast<std::size_t>(copy % copies())].data(); }
  void* gradient(int copy, int which) {
    return static_cast<char*>(gradients_[static_cast<std::size_t>(copy % copies())].data()) + begins_[which];
  }

 private:
  struct Arguments;
  std::unique_ptr<TimedAttention> forward_;
  std::vector<Buffer> d_o_, gradients_;
  std::size_t begins_[5] = {};  ///< of d_q, d_k, d_v and d_sinks in a copy's gradients, and their end
  Buffer workspace_;
};

}  // namespace triage::verdict
