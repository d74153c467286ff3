// What comes before the backward's main kernel: delta = rowsum(d_o * o) - d_lse and the log-sum-exp in powers of 2, by
// padded row (backward_rows.h), zeros where they are needed, and the sinks' gradient, which is a sum over those.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <stdexcept>

#include "attention/padded_rows.h"
#include "device/cuda_check.h"
#include "device/epilogue.h"

namespace triage::attention {

namespace {

constexpr int kThreads = 128;
constexpr int kCtaRows = 16;  ///< of one head; sequences start at multiples of it
constexpr int kSinkThreads = 256;
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

/// @tparam kLanes that share a row, 8 elements each.
template <typename Element, bool kAligned, int kLanes>
__global__ void __launch_bounds__(kThreads) prepare_kernel(const PrepareParams p) {
  const Sequences& s = p.sequences;
  const std::int64_t thread = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  for (std::int64_t i = thread; i < p.zero_words; i += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    p.zeros[i] = make_uint4(0, 0, 0, 0);
  }
  constexpr int kAtOnce = kThreads / kLanes, kSteps = kCtaRows / kAtOnce;
  const int head = static_cast<int>(blockIdx.x % s.heads), lane = threadIdx.x % kLanes, column = 8 * lane;
  // All rows of a CTA lie in one sequence.
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x / s.heads) * kCtaRows;
  int batch = 0, first_query = 0;
  const bool any = find_row(s, p.rows.block, first, batch, first_query);
  const int queries = any ? query_count(s, batch) : 0;
  const auto query_of = [&](int step) { return first_query + step * kAtOnce + static_cast<int>(threadIdx.x) / kLanes; };
  const auto at = [&](const AttentionTensor& t, int step) {
    return static_cast<Element*>(t.data) + (s.cu_seqlens_q ? 0 : batch) * t.batch_stride +
           (query_start(s, batch) + static_cast<std::int64_t>(query_of(step))) * t.sequence_stride +
           head * t.head_stride;
  };
  // Of all steps, and then all sums: so much must be on its way to keep the memory busy.
  alignas(16) Element x[kSteps][8], y[kSteps][8];
#pragma unroll
  for (int step = 0; step < kSteps; step++) {
    const bool real = query_of(step) < queries && column < p.head_dim_v;
    const Element *const o = at(p.o, step) + column, *const d_o = at(p.d_o, step) + column;
    if constexpr (kAligned) {
      const uint4 zero = make_uint4(0, 0, 0, 0);
      *reinterpret_cast<uint4*>(x[step]) = real ? *reinterpret_cast<const uint4*>(o) : zero;
      *reinterpret_cast<uint4*>(y[step]) = real ? *reinterpret_cast<const uint4*>(d_o) : zero;
    } else {
#pragma unroll
      for (int i = 0; i < 8; i++) {
        x[step][i] = real ? o[i] : device::from_float<Element>(0);
        y[step][i] = real ? d_o[i] : device::from_float<Element>(0);
      }
    }
  }
#pragma unroll
  for (int step = 0; step < kSteps; step++) {
    const int query = query_of(step);
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) sum = fmaf(device::to_float(x[step][i]), device::to_float(y[step][i]), sum);
#pragma unroll
    for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
    if (p.clear_unattended && p.d_q.data != nullptr && query < queries) {
      const int low = query / p.rows.block * p.rows.block, high = min(low + p.rows.block, queries) - 1;
      const Mask mask(queries, key_count(s, batch), s.window_left, s.window_right);
      if (mask.first_key(low) > mask.last_key(high)) {
        Element* const d_q = at(p.d_q, step);
        for (int i = lane; i < p.head_dim; i += kLanes) d_q[i] = device::from_float<Element>(0);
      }
    }
    const std::int64_t row = first + query - first_query;
    if (lane == 0 && row < p.rows.rows) {
      float lse = INFINITY, delta = 0.0f;
      if (query < queries) {
        const std::int64_t place = query_start(s, batch) + static_cast<std::int64_t>(query);
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
__global__ void __launch_bounds__(kSinkThreads)
    sink_kernel(const BackwardRows rows, const float* sinks, float* d_sinks) {
  __shared__ float part[kSinkThreads / 32];
  const int head = blockIdx.x;
  const float sink = sinks[head] * kLog2E;
  float sum = 0.0f;
  for (std::int64_t row = threadIdx.x; row < rows.rows; row += kSinkThreads) {
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
    for (int i = 0; i < kSinkThreads / 32; i++) total += part[i];
    d_sinks[head] = -total;
  }
}

template <typename Element, bool kAligned, int kLanes>
void launch(const PrepareParams& p, cudaStream_t stream) {
  const std::int64_t ctas = (p.rows.rows + kCtaRows - 1) / kCtaRows * p.sequences.heads;
  prepare_kernel<Element, kAligned, kLanes><<<static_cast<unsigned>(ctas), kThreads, 0, stream>>>(p);
}

template <typename Element, bool kAligned>
void launch(const PrepareParams& p, cudaStream_t stream) {
  if (p.head_dim_v <= 64) return launch<Element, kAligned, 8>(p, stream);
  p.head_dim_v <= 128 ? launch<Element, kAligned, 16>(p, stream) : launch<Element, kAligned, 32>(p, stream);
}

template <typename Element>
void launch(const PrepareParams& p, bool aligned, cudaStream_t stream) {
  aligned ? launch<Element, true>(p, stream) : launch<Element, false>(p, stream);
}

}  // namespace

void prepare_backward(const AttentionBackwardCall& call, const PrepareBackward& prepare) {
  if (prepare.rows.block % kCtaRows != 0) throw std::logic_error("a thread block's rows would be of two sequences");
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
    sink_kernel<<<static_cast<unsigned>(forward.problem.heads), kSinkThreads, 0, stream>>>(prepare.rows, forward.sinks,
                                                                                           call.d_sinks);
    cuda_check(cudaGetLastError(), "launch of the sinks' gradient");
  }
}

}  // namespace triage::attention
