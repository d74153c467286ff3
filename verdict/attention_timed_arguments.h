// The arguments of a timed call of attention, for its forward and its backward.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "verdict/attention_timed_problem.h"
#include "verdict/operands.h"
#include "verdict/random_inputs.h"
#include "verdict/timed_problem.h"

namespace triage::verdict {

/// The views and options of one call. They point into each other, so they stay where they were made.
struct TimedAttention::Arguments {
  TensorView q, k, v, o, lse, cu_q, cu_k, used, sinks;
  std::int64_t table_shape[2];
  DLTensor table{};
  // TensorView has three dimensions at most; batched tensors have four.
  std::int64_t shapes[4][4];
  AttentionOptions options;

  Arguments(TimedAttention& p, int copy)
      : q(p.q_[static_cast<std::size_t>(copy)].data(), p.device_, dlpack_dtype(p.dtype_),
          {p.shape_.total_q(), p.shape_.heads, p.shape_.head_dim}),
        k(p.k_[static_cast<std::size_t>(copy)].data(), p.device_, dlpack_dtype(p.dtype_),
          {p.shape_.total_k(), p.shape_.kv_heads, p.shape_.head_dim}),
        v(p.v_[static_cast<std::size_t>(copy)].data(), p.device_, dlpack_dtype(p.dtype_),
          {p.shape_.total_k(), p.shape_.kv_heads, p.shape_.head_dim_v}),
        o(p.o_[static_cast<std::size_t>(copy)].data(), p.device_, dlpack_dtype(p.dtype_),
          {p.shape_.total_q(), p.shape_.heads, p.shape_.head_dim_v}),
        lse(p.lse_[static_cast<std::size_t>(copy)].data(), p.device_, {kDLFloat, 32, 1},
            p.shape_.varlen ? std::vector<std::int64_t>{p.shape_.heads, p.shape_.total_q()}
                            : std::vector<std::int64_t>{p.shape_.batch, p.shape_.heads, p.shape_.seqlen_q}),
        cu_q(p.cu_q_buffer_.data(), p.device_, {kDLInt, 32, 1}, {p.shape_.batch + 1}),
        cu_k(p.cu_k_buffer_.data(), p.device_, {kDLInt, 32, 1}, {p.shape_.batch + 1}),
        used(p.used_k_buffer_.data(), p.device_, {kDLInt, 32, 1}, {p.shape_.batch}),
        sinks(p.sinks_.data(), p.device_, {kDLFloat, 32, 1}, {p.shape_.heads}) {
    const bench::AttentionShape& s = p.shape_;
    options.causal = s.causal;
    options.window_left = s.window_left;
    options.window_right = s.window_right;
    options.softcap = static_cast<float>(s.softcap);
    if (s.sinks) options.sinks = &sinks.tensor;
    if (s.block > 0) options.pattern = &p.blocks_.pattern();
    if (s.varlen) {
      options.cu_seqlens_q = &cu_q.tensor;
      options.cu_seqlens_k = &cu_k.tensor;
      options.max_seqlen_q = s.seqlen_q;
      options.max_seqlen_k = s.seqlen_k;
    } else {
      const std::int64_t outer = s.page_size > 0 ? p.pages_ : s.batch,
                         rows = s.page_size > 0 ? s.page_size : s.seqlen_k;
      batched(q, 0, s.batch, s.seqlen_q);
      batched(o, 1, s.batch, s.seqlen_q);
      batched(k, 2, outer, rows);
      batched(v, 3, outer, rows);
    }
    if (s.page_size > 0) {
      table_shape[0] = s.batch, table_shape[1] = p.pages_ / s.batch;
      table = cu_q.tensor;
      table.data = p.table_buffer_.data();
      table.ndim = 2;
      table.shape = table_shape;
      table.strides = nullptr;
      options.block_table = &table;
      options.seqused_k = &used.tensor;
    }
  }

 private:
  // [rows, heads, dim] as [outer, rows / outer, heads, dim]
  void batched(TensorView& view, int slot, std::int64_t outer, std::int64_t rows) {
    const std::int64_t lengths[4] = {outer, rows, view.shape[1], view.shape[2]};
    std::copy(lengths, lengths + 4, shapes[slot]);
    view.tensor.ndim = 4;
    view.tensor.shape = shapes[slot];
    view.tensor.strides = nullptr;
  }
};

}  // namespace triage::verdict
