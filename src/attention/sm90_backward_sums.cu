// What comes before the sums of d_q (sm90_backward_sums.h): how many tiles of keys will come by each block of queries.
#include <cuda_runtime.h>

#include "attention/padded_rows.h"
#include "attention/sm90_backward_sums.h"
#include "device/cuda_check.h"

namespace triage::attention::sm90 {

namespace {

constexpr int kThreads = 128;

/// A warp per block.
__global__ void __launch_bounds__(kThreads) plan_kernel(const SumsPlan p) {
  const Sequences& s = p.sequences;
  const std::int64_t blocks = p.rows.rows / kSumRows;  // of a head
  const std::int64_t block = blockIdx.x * std::int64_t{kThreads / 32} + threadIdx.x / 32;
  if (block >= s.heads * blocks) return;
  const int head = static_cast<int>(block / blocks);
  int batch, query;
  if (!find_row(s, p.rows.block, (block - head * blocks) * kSumRows, batch, query)) return;
  const int lane = threadIdx.x % 32, queries = query_count(s, batch), last = min(query + kSumRows, queries) - 1;
  const Mask window(queries, key_count(s, batch), s.window_left, s.window_right);
  const int first_key = window.first_key(query), last_key = window.last_key(last);
  const int tiles = first_key > last_key ? 0 : last_key / p.tile_keys - first_key / p.tile_keys + 1;
  const std::int64_t start = (s.cu_seqlens_q ? 0 : batch) * p.d_q.batch_stride +
                             (query_start(s, batch) + std::int64_t{query}) * p.d_q.sequence_stride +
                             head * p.d_q.head_stride;
  if (lane < p.cluster) p.sums.states[block * p.cluster + lane] = tiles * sum_state::kMissing;
  if (lane == 0) p.sums.rows[block] = {start, last - query + 1};
  if (tiles > 0) return;
  auto* const d_q = static_cast<std::uint16_t*>(p.d_q.data) + start;  // zero has the same bits in both dtypes
  for (int row = 0; row <= last - query; row++) {
    for (int column = lane; column < p.head_dim; column += 32) d_q[row * p.d_q.sequence_stride + column] = 0;
  }
}

}  // namespace

void plan_sums(const SumsPlan& plan, cudaStream_t stream) {
  const std::int64_t warps = plan.sequences.heads * (plan.rows.rows / kSumRows);
  if (warps == 0) return;
  plan_kernel<<<static_cast<unsigned>((warps + kThreads / 32 - 1) / (kThreads / 32)), kThreads, 0, stream>>>(plan);
  cuda_check(cudaGetLastError(), "launch of sm90 attention backward's plan of sums");
}

}  // namespace triage::attention::sm90
