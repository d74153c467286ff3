// What comes before the backward's main kernel: delta = rowsum(d_o * o) - d_lse and the log-sum-exp in powers of 2, by
// padded row (backward_rows.h), zeros where they are needed, and the sinks' gradient, which is a sum over those.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>

#include "attention/backward_rows.h"
#include "device/cuda_check.h"
#include "device/epilogue.h"

namespace triage::attention {

namespace {

constexpr int kThreads = 256;
constexpr int kCtaRows = 64;  ///< of one head
constexpr float kLog2E = 1.4426950408889634f;

struct PrepareParams {
  Sequences sequences;
  BackwardRows rows;
  AttentionTensor o, d_o, d_q;
  const float *lse, *d_lse;
  std::int64_t lse_batch_stride, lse_head_stride, d_lse_batch_stride, d_lse_head_stride;
  int head_dim, head_dim_v;
  bool clear_unattended;
  uint4* zeros;
  std::int64_t zero_words;  ///< of 16 bytes
};

/// Sequence and query of a padded row; false if it is padding.
__device__ __forceinline__ bool find_row(const Sequences& s, int block, std::int64_t row, int& batch, int& query) {
  std::int64_t start;
  if (s.cu_seqlens_q == nullptr) {
    const std::int64_t stride = padded_start(nullptr, s.seqlen_q, 1, block);
    batch = static_cast<int>(row / stride);
    start = batch * stride;
  } else {
    int low = 0, high = s.batch;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (padded_start(s.cu_seqlens_q, 0, middle, block) <= row ? low : high) = middle;
    }
    batch = low;
    start = padded_start(s.cu_seqlens_q, 0, low, block);
  }
  query = static_cast<int>(row - start);
  return batch < s.batch && query < query_count(s, batch);
}

/// @tparam kLanes that share a row, 8 elements each at a time.
template <typename Element, bool kAligned, int kLanes>
__global__ void __launch_bounds__(kThreads) prepare_kernel(const PrepareParams p) {
  const Sequences& s = p.sequences;
  const std::int64_t thread = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  for (std::int64_t i = thread; i < p.zero_words; i += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    p.zeros[i] = make_uint4(0, 0, 0, 0);
  }
  const int head = static_cast<int>(blockIdx.x % s.heads), lane = threadIdx.x % kLanes;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x / s.heads) * kCtaRows;
  constexpr int kAtOnce = kThreads / kLanes;
#pragma unroll
  for (int step = 0; step < kCtaRows / kAtOnce; step++) {
    const std::int64_t row = first + step * kAtOnce + threadIdx.x / kLanes;
    if (row >= p.rows.rows) continue;  // kLanes lanes together, and no shuffle leaves them
    int batch, query;
    const bool real = find_row(s, p.rows.block, row, batch, query);
    float sum = 0.0f;
    std::int64_t place = 0;
    if (real) {
      place = query_start(s, batch) + static_cast<std::int64_t>(query);
      const auto at = [&](const AttentionTensor& t) {
        return static_cast<const Element*>(t.data) + (s.cu_seqlens_q ? 0 : batch) * t.batch_stride +
               place * t.sequence_stride + head * t.head_stride;
      };
      const Element *const o = at(p.o), *const d_o = at(p.d_o);
      for (int column = 8 * lane; column < p.head_dim_v; column += 8 * kLanes) {
        alignas(16) Element x[8], y[8];
        if constexpr (kAligned) {
          *reinterpret_cast<uint4*>(x) = *reinterpret_cast<const uint4*>(o + column);
          *reinterpret_cast<uint4*>(y) = *reinterpret_cast<const uint4*>(d_o + column);
        } else {
#pragma unroll
          for (int i = 0; i < 8; i++) x[i] = o[column + i], y[i] = d_o[column + i];
        }
#pragma unroll
        for (int i = 0; i < 8; i++) sum = fmaf(device::to_float(x[i]), device::to_float(y[i]), sum);
      }
      if (p.clear_unattended && p.d_q.data != nullptr) {
        const int queries = query_count(s, batch), keys = key_count(s, batch);
        const int low = query / p.rows.block * p.rows.block, high = min(low + p.rows.block, queries) - 1;
        const Mask mask(queries, keys, s.window_left, s.window_right);
        if (mask.first_key(low) > mask.last_key(high)) {
          Element* const d_q = const_cast<Element*>(at(p.d_q));
          for (int column = lane; column < p.head_dim; column += kLanes) d_q[column] = device::from_float<Element>(0);
        }
      }
    }
    const unsigned lanes = kLanes == 32 ? ~0u : ((1u << kLanes) - 1) << (threadIdx.x % 32 / kLanes * kLanes);
#pragma unroll
    for (int step_lanes = kLanes / 2; step_lanes > 0; step_lanes /= 2) {
      sum += __shfl_xor_sync(lanes, sum, step_lanes);
    }
    if (lane == 0) {
      float lse = INFINITY, delta = 0.0f;
      if (real) {
        const float given = p.lse[batch * p.lse_batch_stride + head * p.lse_head_stride + place];
        if (given != -INFINITY) {
          lse = given * kLog2E;
          delta = sum;
          if (p.d_lse) delta -= p.d_lse[batch * p.d_lse_batch_stride + head * p.d_lse_head_stride + place];
        }
      }
      p.rows.lse_log2[head * p.rows.rows + row] = lse;
      p.rows.delta[head * p.rows.rows + row] = delta;
    }
  }
}

/// d_sinks[head] = -sum of exp(sink - lse) * delta. One CTA per head; the order of the sum is fixed.
__global__ void __launch_bounds__(kThreads) sink_kernel(const BackwardRows rows, const float* sinks, float* d_sinks) {
  __shared__ float part[kThreads / 32];
  const int head = blockIdx.x;
  const float sink = sinks[head] * kLog2E;
  float sum = 0.0f;
  for (std::int64_t row = threadIdx.x; row < rows.rows; row += kThreads) {
    const float lse = rows.lse_log2[head * rows.rows + row];
    // A sink of +inf has all the weight and no gradient; padding and -inf have no weight.
    if (lse != INFINITY) sum += exp2f(sink - lse) * rows.delta[head * rows.rows + row];
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0.0f;
    for (int i = 0; i < kThreads / 32; i++) total += part[i];
    d_sinks[head] = -total;
  }
}

template <typename Element, bool kAligned, int kLanes>
void launch(const PrepareParams& p, cudaStream_t stream) {
  const std::int64_t ctas = (p.rows.rows + kCtaRows - 1) / kCtaRows * p.sequences.heads;
  prepare_kernel<Element, kAligned, kLanes><<<static_cast<unsigned>(ctas), kThreads, 0, stream>>>(p);
}

template <typename Element>
void launch(const PrepareParams& p, bool aligned, cudaStream_t stream) {
  if (!aligned) return launch<Element, false, 16>(p, stream);
  p.head_dim_v <= 64 ? launch<Element, true, 8>(p, stream) : launch<Element, true, 16>(p, stream);
}

}  // namespace

void prepare_backward(const AttentionBackwardCall& call, const PrepareBackward& prepare) {
  const AttentionCall& forward = call.forward;
  PrepareParams p{};
  p.sequences = sequences_of(forward);
  p.rows = prepare.rows;
  p.o = forward.o;
  p.d_o = call.d_o;
  p.d_q = call.d_q;
  p.lse = forward.lse;
  p.d_lse = call.d_lse;
  p.lse_batch_stride = forward.lse_batch_stride;
  p.lse_head_stride = forward.lse_head_stride;
  p.d_lse_batch_stride = call.d_lse_batch_stride;
  p.d_lse_head_stride = call.d_lse_head_stride;
  p.head_dim = forward.problem.head_dim;
  p.head_dim_v = forward.problem.head_dim_v;
  p.clear_unattended = prepare.clear_unattended;
  p.zeros = static_cast<uint4*>(prepare.zeros);
  p.zero_words = static_cast<std::int64_t>(prepare.zero_bytes / sizeof(uint4));
  const auto stream = static_cast<cudaStream_t>(forward.stream);
  if (p.rows.rows > 0) {
    forward.problem.dtype == DType::float16 ? launch<__half>(p, forward.problem.aligned16, stream)
                                            : launch<__nv_bfloat16>(p, forward.problem.aligned16, stream);
    cuda_check(cudaGetLastError(), "launch of the rows' statistics of attention's backward");
  } else if (prepare.zero_bytes > 0) {
    cuda_check(cudaMemsetAsync(prepare.zeros, 0, prepare.zero_bytes, stream), "cudaMemsetAsync of backward's zeros");
  }
  if (call.d_sinks != nullptr) {
    sink_kernel<<<static_cast<unsigned>(forward.problem.heads), kThreads, 0, stream>>>(prepare.rows, forward.sinks,
                                                                                       call.d_sinks);
    cuda_check(cudaGetLastError(), "launch of the sinks' gradient");
  }
}

}  // namespace triage::attention
