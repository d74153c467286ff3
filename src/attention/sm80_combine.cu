// What the sm80 attention kernels share on the host, and the sum of splits.
#include <bit>

#include "attention/sm80_launch.h"
#include "device/dependent_launch.h"
#include "device/tile_order.h"

namespace triage::attention::sm80 {

namespace {

constexpr int kCombineThreads = 256;
static_assert(kMaxSplits == 64, "a lane weighs two splits");

/// A CTA adds up the splits of one row: their weights are exp(lse of the split - lse of all). Threads hold four columns
/// of every kSlices-th split, all loaded at once: a row is a few hundred short reads, and their latency is what it
/// takes. Sums are taken in a fixed order.
/// @tparam kChunks of four columns that a row has at most.
template <typename Element, int kChunks>
__global__ void __launch_bounds__(kCombineThreads) combine_kernel(const __grid_constant__ ForwardParams p) {
  constexpr int kSlices = kCombineThreads / kChunks, kSplits = kMaxSplits / kSlices;
  __shared__ float weights[kMaxSplits];
  __shared__ float4 sums[kSlices][kChunks];
  const std::int64_t index = blockIdx.x;
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
  const int chunk = threadIdx.x % kChunks, slice = threadIdx.x / kChunks;
  const bool inside = 4 * chunk < p.head_dim_v;
  wait_for_forward();
  float4 x[kSplits];
#pragma unroll
  for (int i = 0; i < kSplits; i++) {
    const int split = slice + i * kSlices;
    if (inside && split < p.splits) {
      x[i] = *reinterpret_cast<const float4*>(p.partial_out + (split * p.rows + index) * p.head_dim_v + 4 * chunk);
    }
  }
  if (threadIdx.x < 32) {
    constexpr float kLog2E = 1.4426950408889634f;
    const float sink = p.sinks ? p.sinks[head] : -INFINITY;
    const int lane = threadIdx.x;
    float lse[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int split = lane + 32 * i;
      lse[i] = split < p.splits ? p.partial_lse[split * p.rows + index] : -INFINITY;
    }
    float top = fmaxf(sink, fmaxf(lse[0], lse[1]));
    for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, step));
    const float base = top == -INFINITY ? 0.0f : top;
    float weight[2];
#pragma unroll
    for (int i = 0; i < 2; i++) weight[i] = ptx::exp2_approx((lse[i] - base) * kLog2E);
    float sum = weight[0] + weight[1];
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    sum += ptx::exp2_approx((sink - base) * kLog2E);
    if (p.lse && lane == 0) {
      p.lse[batch * p.lse_batch_stride + head * p.lse_head_stride + row] = sum == 0.0f ? -INFINITY : base + logf(sum);
    }
    const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
#pragma unroll
    for (int i = 0; i < 2; i++) weights[lane + 32 * i] = weight[i] * inverse;
  }
  __syncthreads();
  float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  const auto add = [&](float weight, const float4& y) {
    total.x += weight * y.x;
    total.y += weight * y.y;
    total.z += weight * y.z;
    total.w += weight * y.w;
  };
#pragma unroll
  for (int i = 0; i < kSplits; i++) {
    const float weight = weights[slice + i * kSlices];
    if (inside && weight != 0.0f) add(weight, x[i]);  // an empty split has written nothing
  }
  sums[slice][chunk] = total;
  __syncthreads();
  if (slice > 0 || !inside) return;
#pragma unroll
  for (int i = 1; i < kSlices; i++) add(1.0f, sums[i][chunk]);
  Element* const out = static_cast<Element*>(p.out) + batch * p.out_batch_stride + row * p.out_row_stride +
                       head * p.out_head_stride + 4 * chunk;
  const float columns[4] = {total.x, total.y, total.z, total.w};
#pragma unroll
  for (int i = 0; i < 4; i++) out[i] = device::from_float<Element>(columns[i]);
}

template <typename Element>
auto combine_kernel_for(int head_dim_v) {
  return head_dim_v <= 64    ? combine_kernel<Element, 16>
         : head_dim_v <= 128 ? combine_kernel<Element, 32>
                             : combine_kernel<Element, 64>;
}

/// Whether the GPU runs code in which the forward kernel and this one know of each other (`wait_for_forward`). It need
/// not on a recent GPU: the driver may have compiled it from an older architecture's PTX.
bool starts_early(const void* kernel) {
  cudaFuncAttributes attributes;
  cuda_check(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes of sm80 attention's combination");
  return attributes.ptxVersion >= 90;
}

Source source_of(const AttentionTensor& t) { return {t.data, t.batch_stride, t.sequence_stride, t.head_stride}; }

}  // namespace

ForwardParams forward_params(const AttentionCall& call, const Plan& plan) {
  const AttentionProblem& problem = call.problem;
  ForwardParams p{};
  static_cast<ResultParams&>(p) = result_params(call);
  p.sequences = sequences_of(call);
  p.q = source_of(call.q);
  p.k = source_of(call.k);
  p.v = source_of(call.v);
  p.head_dim = problem.head_dim;
  p.aligned16 = problem.aligned16;
  p.pack = plan.pack;
  p.m_tiles = static_cast<int>((problem.seqlen_q * plan.pack + plan.rows - 1) / plan.rows);
  p.heaviest_first = heaviest_last(problem);
  const std::int64_t heads = problem.batch * problem.heads / plan.pack;
  p.heads_at_once = heads_at_once(kL2Share * static_cast<double>(call.device->l2_bytes), heads, problem, heads);
  if (problem.page_size != 0) {
    p.block_table = call.block_table;
    p.block_table_stride = call.block_table_stride;
    p.page_shift = std::countr_zero(static_cast<unsigned>(problem.page_size));
  }
  p.mask = call.mask;
  if (problem.block_sparse) p.tile_order = static_cast<std::int32_t*>(call.workspace.data) + kCounterWords;
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
  const auto ctas = static_cast<unsigned>(params.rows);
  const auto stream = static_cast<cudaStream_t>(call.stream);
  constexpr const char* kWhat = "launch of sm80 attention's combination";
  const auto kernel = call.problem.dtype == DType::float16 ? combine_kernel_for<__half>(params.head_dim_v)
                                                           : combine_kernel_for<__nv_bfloat16>(params.head_dim_v);
  if (starts_early(reinterpret_cast<const void*>(kernel))) {
    device::launch_dependent(kernel, ctas, kCombineThreads, 0, stream, kWhat, params);
  } else {
    kernel<<<ctas, kCombineThreads, 0, stream>>>(params);
    cuda_check(cudaGetLastError(), kWhat);
  }
}

/// The order of a block-sparse call's tiles.
void order_tiles(const AttentionCall& call, const ForwardParams& params, const Plan& plan) {
  TileOrderPlan order;
  order.counts = call.mask.by_query.counts;
  order.rows = call.mask.by_query.rows;
  order.batch_masks = call.mask.batch_masks;
  order.heads_per_mask = call.mask.heads_per_mask;
  order.heads = static_cast<int>(call.problem.heads);
  order.units = static_cast<int>(call.problem.batch * call.problem.heads);
  order.rows_per_tile = plan.rows / AttentionMask::kBlock;
  order.tiles_per_unit = params.m_tiles;
  order.units_at_once = params.heads_at_once;
  order.counter = static_cast<std::int32_t*>(call.workspace.data);
  order.order = order.counter + kCounterWords;
  order_tiles_cuda(order, call.stream);
}

void launch_forward(const AttentionCall& call) {
  const Plan plan = plan_forward(call.problem, *call.device);
  if (call.problem.block_sparse) order_tiles(call, forward_params(call, plan), plan);
  const int padded = padded_head_dim(std::max(call.problem.head_dim, call.problem.head_dim_v));
  const auto launch = [&]<int kHeadDim>() {
    if (plan.shape == Shape::sparse) {
      launch_shape<Shape::sparse, kHeadDim>(call, plan);
    } else if (plan.shape == Shape::sparse_wide) {
      if constexpr (kHeadDim < 256) launch_shape<Shape::sparse_wide, kHeadDim>(call, plan);
    } else if (plan.shape == Shape::narrow) {
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
