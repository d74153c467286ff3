// Attention with random operands in guarded memory: made, run through the public API, and judged.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "registry/attention_kernel.h"
#include "triage/triage.h"
#include "verdict/attention_correctness.h"
#include "verdict/attention_mask.h"
#include "verdict/guarded_tensor.h"
#include "verdict/random_inputs.h"

namespace triage::verdict {

/// How the rows of a [batch, sequence, heads, head_dim] tensor lie in memory, the outermost first.
enum class HeadOrder { bshd, bhsd, sbhd };

/// Where the keys are.
enum class KeyStore {
  dense,   ///< [batch, seqlen_k, ...], all of them
  packed,  ///< cu_seqlens_k
  cache,   ///< [batch, capacity, ...], seqused_k of them
  paged,   ///< pages in shuffled order, seqused_k of them
};

/// Everything that defines a problem; replayed from its label.
struct AttentionSpec {
  DType dtype = DType::float32;
  std::int64_t batch = 1, heads = 1, kv_heads = 1;
  std::int64_t seqlen_q = 0, seqlen_k = 0;  ///< of every sequence, unless there are lengths; of a cache its capacity
  std::vector<std::int64_t> q_lengths;      ///< [batch]: cu_seqlens_q; empty: all seqlen_q
  std::vector<std::int64_t> k_lengths;      ///< [batch], with every key store but `dense`
  KeyStore keys = KeyStore::dense;
  int page_size = 16;
  int head_dim = 64, head_dim_v = 64;

  bool causal = false;
  std::int64_t window_left = -1, window_right = -1;
  float softmax_scale = 0, softcap = 0;
  bool sinks = false, lse = true;
  int num_splits = 0;
  PatternSpec pattern;  ///< with the key stores `dense` and `packed`

  HeadOrder order = HeadOrder::bshd;
  std::int64_t padding = 0;       ///< rows of NaN after each sequence of a batched tensor, and after a packed one
  std::int64_t extra_stride = 0;  ///< elements of NaN after each row of each tensor
  std::int64_t offset = 0;        ///< elements by which every tensor is off the 256-byte boundary
  ValueKind values = ValueKind::centred;
  bool zero_queries = false;  ///< Q = 0: all weights are equal, and the result is a mean
  std::uint64_t seed = 1;

  std::int64_t q_length(std::int64_t b) const {
    return q_lengths.empty() ? seqlen_q : q_lengths[static_cast<std::size_t>(b)];
  }
  std::int64_t k_length(std::int64_t b) const {
    return k_lengths.empty() ? seqlen_k : k_lengths[static_cast<std::size_t>(b)];
  }
  /// One line that names all of this; enough to make the problem again.
  std::string label(const char* operation = "attention.forward") const;
};

/// Rows of head_dim elements, in any order of [outer, length, heads]; those that belong to no sequence stay NaN.
class HeadTensor {
 public:
  /// A DLPack view with the shape and strides that it points at.
  struct View {
    std::int64_t shape[4], strides[4];
    DLTensor tensor;
    View(const HeadTensor& of, bool packed);
    View(const View&) = delete;
    View& operator=(const View&) = delete;
    operator const DLTensor&() const { return tensor; }
  };

  HeadTensor() = default;
  HeadTensor(const char* name, DLDevice device, const AttentionSpec& spec, std::int64_t outer, std::int64_t length,
             std::int64_t heads, int dim, std::int64_t padding, std::uint64_t seed);

  void use_row(std::int64_t outer, std::int64_t position);
  /// Random elements in the rows in use. zero: 0 instead.
  void fill(ValueKind kind, std::uint64_t seed, bool zero = false);
  /// The rows in use as `other` has them, which is of as many rows. What belongs to no sequence stays NaN.
  void use_rows_of(const HeadTensor& other);
  /// After download: a sentence if anything was written that must not be; `constant`: rows in use as well.
  std::string damage(bool constant) const;

  std::int64_t outer() const { return outer_; }
  std::int64_t length() const { return length_; }
  std::int64_t heads() const { return heads_; }
  GuardedTensor& guarded() { return guarded_; }
  const GuardedTensor& guarded() const { return guarded_; }
  /// As a kernel sees it, with its pointer into the host image.
  AttentionTensor host_tensor(bool packed) const;

 private:
  std::int64_t row(std::int64_t outer, std::int64_t position, std::int64_t head) const {
    return outer * outer_rows_ + position * position_rows_ + head * head_rows_;
  }

  std::string name_;
  DType dtype_ = DType::float32;
  std::int64_t outer_ = 0, length_ = 0, heads_ = 0;
  int dim_ = 0;
  std::int64_t outer_rows_ = 0, position_rows_ = 0, head_rows_ = 0;  // strides in rows
  std::vector<bool> used_;                                           // by row
  GuardedTensor guarded_;
};

/// Owns the operands on a device. O and lse hold NaN before each run.
class GuardedAttention {
 public:
  /// Makes, fills and uploads everything. @throws triage::Error
  GuardedAttention(const AttentionSpec& spec, DLDevice device, Stream stream = nullptr)
      : GuardedAttention(spec, device, stream, true) {}

  const AttentionSpec& spec() const { return spec_; }

  /// Puts O and lse back into their state before a run, and NaN into the workspace. Blocking.
  void reset_output(Stream stream = nullptr);
  /// One call of attention_forward, asynchronous on a GPU. The workspace is made with the problem.
  void run(Stream stream = nullptr);
  /// New values for all inputs, uploaded, and a reset. Blocking.
  void refill(std::uint64_t seed, Stream stream = nullptr);
  /// Waits, downloads and judges O, lse, the guards around every tensor and that no input was written.
  CheckResult check(const AttentionCheckOptions& options = {}, Stream stream = nullptr);
  /// All bytes of O, lse and of what lies around them, to compare runs bit for bit.
  std::vector<unsigned char> output_bytes(Stream stream = nullptr);

  /// Host images of the operands, to plant special values; upload_inputs() makes them count.
  HeadTensor& q() { return q_; }
  HeadTensor& k() { return k_; }
  HeadTensor& v() { return v_; }
  HeadTensor& o() { return o_; }
  GuardedTensor& lse() { return lse_; }
  void upload_inputs(Stream stream = nullptr);

  /// The call as the oracle reads it: all pointers in host memory, the window as the spec has it.
  AttentionCall host_call() const;

 protected:
  /// The views of one call. They point into each other, so they stay where they were made.
  struct Arguments {
    HeadTensor::View q, k, v, o;
    std::int64_t lse_shape[3], lse_strides[3], cu_q_shape, cu_k_shape, used_shape, table_shape[2];
    DLTensor lse, cu_q, cu_k, used, table, sinks;
    const DLTensor* lse_or_null;
    AttentionOptions options;

    explicit Arguments(const GuardedAttention& problem);
    std::size_t workspace_bytes() const { return attention_forward_workspace_bytes(q, k, v, o, lse_or_null, options); }
  };

  /// @param runs whether `run` will be called: without, no kernel is asked for a workspace.
  GuardedAttention(const AttentionSpec& spec, DLDevice device, Stream stream, bool runs);
  bool packed_q() const { return !spec_.q_lengths.empty(); }
  bool packed_k() const { return spec_.keys == KeyStore::packed; }
  void fill(std::uint64_t seed);
  void refill_pattern(std::uint64_t seed, Stream stream);

  AttentionSpec spec_;
  DLDevice device_;
  HeadTensor q_, k_, v_, o_;
  GuardedTensor lse_, sinks_;

 private:
  void make_index_arrays(Stream stream);
  std::string lse_damage() const;

  std::vector<std::int32_t> cu_q_, cu_k_, used_k_, table_;  // host images
  std::int64_t pages_ = 0, table_width_ = 0;
  Buffer cu_q_buffer_, cu_k_buffer_, used_k_buffer_, table_buffer_;
  GuardedWorkspace workspace_;
  GuardedPattern blocks_;
};

}  // namespace triage::verdict
