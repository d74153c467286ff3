// What the sm80 attention kernels share on the host, and the sum of splits.
#include <bit>

#include "attention/sm80_launch.h"

namespace triage::attention::sm80 {

namespace {

constexpr int kRowsPerCta = 4;

/// A warp adds up the splits of one row, in order: their weights are exp(lse of the split - lse of all).
template <typename Element>
__global__ void __launch_bounds__(32 * kRowsPerCta) combine_kernel(const __grid_constant__ ForwardParams p) {
  const int lane = threadIdx.x % 32;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kRowsPerCta + threadIdx.x / 32;
  if (index >= p.rows) return;
  const Sequences& s = p.sequences;
  int batch = 0, head, row;
  if (s.cu_seqlens_q) {
    head = static_cast<int>(index / p.total_q);
    row = static_cast<int>(index - static_cast<std::int64_t>(head) * p.total_q);
    if (row >= s.cu_seqlens_q[s.batch]) return;  // behind the last sequence
  } else {
    const std::int64_t place = index / s.seqlen_q;
    row = static_cast<int>(index - place * s.seqlen_q);
    batch = static_cast<int>(place / s.heads);
    head = static_cast<int>(place - static_cast<std::int64_t>(batch) * s.heads);
  }
  // Lane l weighs splits l and l + 32; sums of the warp are taken in a fixed order.
  static_assert(kMaxSplits <= 64, "a lane holds two weights");
  constexpr float kLog2E = 1.4426950408889634f;
  const float sink = p.sinks ? p.sinks[head] : -INFINITY;
  float lse[2], weight[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int split = lane + 32 * i;
    lse[i] = split < p.splits ? p.partial_lse[split * p.rows + index] : -INFINITY;
  }
  float top = fmaxf(sink, fmaxf(lse[0], lse[1]));
  for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, step));
  const float base = top == -INFINITY ? 0.0f : top;
#pragma unroll
  for (int i = 0; i < 2; i++) weight[i] = ptx::exp2_approx((lse[i] - base) * kLog2E);
  float sum = weight[0] + weight[1];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  sum += ptx::exp2_approx((sink - base) * kLog2E);
  if (p.lse && lane == 0) {
    p.lse[batch * p.lse_batch_stride + head * p.lse_head_stride + row] = sum == 0.0f ? -INFINITY : base + logf(sum);
  }
  const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
  Element* const out =
      static_cast<Element*>(p.out) + batch * p.out_batch_stride + row * p.out_row_stride + head * p.out_head_stride;
  for (int first = 0; first < p.head_dim_v; first += 64) {
    const int column = first + 2 * lane;
    float2 x = make_float2(0.0f, 0.0f);
#pragma unroll 8
    for (int split = 0; split < p.splits; split++) {
      const float w = __shfl_sync(0xffffffffu, split < 32 ? weight[0] : weight[1], split % 32);
      if (w == 0.0f || column >= p.head_dim_v) continue;  // an empty split has written nothing
      const float2 y =
          *reinterpret_cast<const float2*>(p.partial_out + (split * p.rows + index) * p.head_dim_v + column);
      x.x += w * y.x;
      x.y += w * y.y;
    }
    if (column < p.head_dim_v) {
      out[column] = device::from_float<Element>(x.x * inverse);
      out[column + 1] = device::from_float<Element>(x.y * inverse);
    }
  }
}

Source source_of(const AttentionTensor& t) { return {t.data, t.batch_stride, t.sequence_stride, t.head_stride}; }

}  // namespace

ForwardParams forward_params(const AttentionCall& call, const Plan& plan) {
  const AttentionProblem& problem = call.problem;
  constexpr float kLog2E = 1.4426950408889634f;
  ForwardParams p{};
  p.sequences = sequences_of(call);
  p.q = source_of(call.q);
  p.k = source_of(call.k);
  p.v = source_of(call.v);
  p.out = call.o.data;
  p.out_batch_stride = call.o.batch_stride;
  p.out_row_stride = call.o.sequence_stride;
  p.out_head_stride = call.o.head_stride;
  p.head_dim = problem.head_dim;
  p.head_dim_v = problem.head_dim_v;
  p.aligned16 = problem.aligned16;
  p.pack = plan.pack;
  p.m_tiles = static_cast<int>((problem.seqlen_q * plan.pack + plan.rows - 1) / plan.rows);
  p.heaviest_first = heaviest_last(problem);
  p.heads_at_once = heads_in(kL2Share * call.device->l2_bytes, problem, problem.batch * problem.heads / plan.pack);
  if (problem.page_size != 0) {
    p.block_table = call.block_table;
    p.block_table_stride = call.block_table_stride;
    p.page_shift = std::countr_zero(static_cast<unsigned>(problem.page_size));
  }
  if (problem.softcap > 0.0f) {
    p.cap_scale = call.softmax_scale / problem.softcap;
    p.scale_log2 = problem.softcap * kLog2E;
  } else {
    p.scale_log2 = call.softmax_scale * kLog2E;
  }
  p.sinks = call.sinks;
  p.lse = call.lse;
  p.lse_batch_stride = call.lse_batch_stride;
  p.lse_head_stride = call.lse_head_stride;
  p.splits = plan.splits;
  p.rows = problem.heads * problem.total_q;
  p.total_q = static_cast<int>(problem.total_q);
  if (plan.splits > 1) {
    p.partial_out = static_cast<float*>(call.workspace.data);
    p.partial_lse = p.partial_out + plan.splits * p.rows * p.head_dim_v;
  }
  return p;
}

void launch_combine(const AttentionCall& call, const ForwardParams& params) {
  const auto ctas = static_cast<unsigned>((params.rows + kRowsPerCta - 1) / kRowsPerCta);
  const auto stream = static_cast<cudaStream_t>(call.stream);
  if (call.problem.dtype == DType::float16) {
    combine_kernel<__half><<<ctas, 32 * kRowsPerCta, 0, stream>>>(params);
  } else {
    combine_kernel<__nv_bfloat16><<<ctas, 32 * kRowsPerCta, 0, stream>>>(params);
  }
  cuda_check(cudaGetLastError(), "launch of sm80 attention's combination");
}

void launch_forward(const AttentionCall& call) {
  const Plan plan = plan_forward(call.problem, *call.device);
  const int padded = padded_head_dim(std::max(call.problem.head_dim, call.problem.head_dim_v));
  const auto launch = [&]<int kHeadDim>() {
    if (plan.shape == Shape::narrow) {
      launch_shape<Shape::narrow, kHeadDim>(call, plan);
    } else if (plan.shape == Shape::medium || kHeadDim == 256) {
      launch_shape<Shape::medium, kHeadDim>(call, plan);
    } else if constexpr (kHeadDim < 256) {
      launch_shape<Shape::wide, kHeadDim>(call, plan);
    }
  };
  if (padded == 64) {
    launch.template operator()<64>();
  } else if (padded == 128) {
    launch.template operator()<128>();
  } else {
    launch.template operator()<256>();
  }
}

}  // namespace triage::attention::sm80
