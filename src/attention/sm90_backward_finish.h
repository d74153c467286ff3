// The end of attention's backward in one pass on Hopper: d_q out of its sums in fp32.
#pragma once

#include "attention/padded_rows.h"
#include "attention/sm90_backward_values.h"
#include "registry/attention_kernel.h"

namespace triage::attention::sm90 {

constexpr int kFinishThreads = 128;

struct FinishParams {
  Sequences sequences;
  BackwardRows rows;
  const float* sums;  ///< [heads, rows / 64, kPanels] of 64 x 64, see sm90_backward_one_pass.h
  AttentionTensor d_q;
  float scale;
  int head_dim;
};

/// Grid: blocks of 64 padded rows of all heads, panels of 64 columns.
template <typename Element, int kPanels>
__global__ void __launch_bounds__(kFinishThreads) finish_query_gradient(const FinishParams p) {
  const std::int64_t blocks = p.rows.rows / 64, head = blockIdx.x / blocks, row = (blockIdx.x - head * blocks) * 64;
  int batch, query;
  if (!find_row(p.sequences, p.rows.block, row, batch, query)) return;
  const auto* const from =
      reinterpret_cast<const float4*>(p.sums + (std::int64_t{blockIdx.x} * kPanels + blockIdx.y) * (64 * 64)) +
      threadIdx.x;
  float x[32];
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const float4 v = __ldcs(from + j * kFinishThreads);
    x[4 * j] = v.x, x[4 * j + 1] = v.y, x[4 * j + 2] = v.z, x[4 * j + 3] = v.w;
  }
  const Sequences& s = p.sequences;
  Element* const to = static_cast<Element*>(p.d_q.data) + (s.cu_seqlens_q ? 0 : batch) * p.d_q.batch_stride +
                      query_start(s, batch) * p.d_q.sequence_stride + head * p.d_q.head_stride;
  store_rows(x, p.scale, to, p.d_q.sequence_stride, query + threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4,
             query_count(s, batch), 64 * static_cast<int>(blockIdx.y), p.head_dim);
}

}  // namespace triage::attention::sm90
