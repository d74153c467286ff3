#include "device/tile_order.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "device/cuda_check.h"

namespace triage {

namespace {

constexpr int kThreads = 1024, kWarps = kThreads / 32, kClasses = 16;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ int tile_weight(const TileOrderPlan& p, int number) {
  const int unit = number / p.tiles_per_unit, first = (number - unit * p.tiles_per_unit) * p.rows_per_tile;
  int weight = 0;
  for (int i = 0; i < p.heads_per_unit; i++) {
    const int head = unit * p.heads_per_unit + i, batch = head / p.heads;
    const std::int64_t mask = batch * p.batch_masks + (head - batch * p.heads) / p.heads_per_mask;
    for (int r = first; r < min(first + p.rows_per_tile, p.rows); r++) weight += p.counts[mask * p.rows + r];
  }
  return weight;
}

// Which class of weight: a step is a factor of the square root of 2, the mean in the middle. Classes are coarse,
// because order within one is that of heads and rows: neighbours share keys and values in L2, which a finer order would
// undo.
__device__ int weight_class(int weight, float mean) {
  if (weight == 0 || mean == 0.0f) return kClasses - 1;
  return min(max(kClasses / 2 - __float2int_rn(2.0f * log2f(weight / mean)), 0), kClasses - 1);
}

/// Classes of tiles that are taken before all groups: from 2.4 times the mean on.
constexpr int kHeavyClasses = kClasses / 2 - 2;

// A CTA a group of units: a counting sort that keeps the order within a class. Every CTA looks at all tiles, so that it
// knows the mean and how many heavy ones other groups have.
__global__ void __launch_bounds__(kThreads) order_kernel(const TileOrderPlan p) {
  __shared__ unsigned long long total;
  __shared__ int next[kClasses], heavy_before, heavy_all, counts[kWarps][kClasses];
  const int tiles = p.units * p.tiles_per_unit, first = blockIdx.x * p.units_at_once * p.tiles_per_unit;
  const int end = min(first + p.units_at_once * p.tiles_per_unit, tiles);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (threadIdx.x == 0) {
    total = 0;
    heavy_before = heavy_all = 0;
    if (blockIdx.x == 0) *p.counter = 0;
  }
  if (threadIdx.x < kClasses) next[threadIdx.x] = 0;
  __syncthreads();
  // An exact sum: all CTAs must come to the same mean.
  unsigned long long sum = 0;
  for (int i = threadIdx.x; i < tiles; i += kThreads) sum += tile_weight(p, i);
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  if (lane == 0) atomicAdd(&total, sum);
  __syncthreads();
  const float mean = static_cast<float>(total) / static_cast<float>(max(tiles, 1));
  const auto class_of = [&](int i, int limit) { return i < limit ? weight_class(tile_weight(p, i), mean) : kClasses; };
  for (int start = 0; start < tiles; start += kThreads) {
    const int i = start + threadIdx.x, own = class_of(i, tiles);
    const unsigned heavy = __ballot_sync(kAllLanes, own < kHeavyClasses);
    const unsigned before = __ballot_sync(kAllLanes, own < kHeavyClasses && i < first);
    if (lane == 0 && heavy != 0) {
      atomicAdd(&heavy_all, __popc(heavy));
      atomicAdd(&heavy_before, __popc(before));
    }
    const unsigned same = __match_any_sync(kAllLanes, i >= first && i < end ? own : kClasses);
    if (own < kClasses && i >= first && i < end && lane == __ffs(same) - 1) atomicAdd(&next[own], __popc(same));
  }
  __syncthreads();
  if (threadIdx.x == 0) {  // where each class of the group begins
    int heavy = heavy_before, light = heavy_all + first - heavy_before;
    for (int c = 0; c < kClasses; c++) {
      int& begin = c < kHeavyClasses ? heavy : light;
      const int count = next[c];
      next[c] = begin;
      begin += count;
    }
  }
  __syncthreads();
  for (int start = first; start < end; start += kThreads) {
    const int i = start + threadIdx.x;
    const int own = class_of(i, end);
    if (lane < kClasses) counts[warp][lane] = 0;
    __syncwarp();
    const unsigned same = __match_any_sync(kAllLanes, own), below = (1u << lane) - 1;
    if (own < kClasses && (same & below) == 0) counts[warp][own] = __popc(same);
    __syncthreads();
    if (threadIdx.x < kClasses) {  // from counts to places
      int place = next[threadIdx.x];
      for (int w = 0; w < kWarps; w++) {
        const int count = counts[w][threadIdx.x];
        counts[w][threadIdx.x] = place;
        place += count;
      }
      next[threadIdx.x] = place;
    }
    __syncthreads();
    if (own < kClasses) p.order[counts[warp][own] + __popc(same & below)] = i;
    __syncthreads();
  }
}

}  // namespace

void order_tiles_cuda(const TileOrderPlan& plan, void* stream) {
  const int groups = (plan.units + plan.units_at_once - 1) / plan.units_at_once;
  order_kernel<<<std::max(groups, 1), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(plan);
  cuda_check(cudaGetLastError(), "launch of the order of block-sparse tiles");
}

}  // namespace triage
