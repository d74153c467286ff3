// The order in which packed sequences are worked on: the one with the most keys first, so that what is left at the end
// is short.
#include <cuda_runtime.h>

#include <algorithm>

#include "attention/sm90_tiles.h"
#include "device/cuda_check.h"

namespace triage::attention::sm90 {

namespace {

constexpr int kThreads = 512;
constexpr int kSortedBatch = 2048;  ///< sequences that are sorted; of more, each CTA's share is mixed anyway

/// One CTA. Ranks are counted, not sorted: a batch of 2048 costs each thread 4 x 2048 comparisons.
__global__ void __launch_bounds__(kThreads) plan_kernel(const TileOrder o, int block_m) {
  __shared__ int keys[kSortedBatch];
  const bool sorted = o.batch <= kSortedBatch;
  if (threadIdx.x == 0) *o.counter = 0;
  for (int b = threadIdx.x; b < o.batch; b += kThreads) {
    if (sorted) keys[b] = key_count(o, b);
  }
  __syncthreads();
  for (int b = threadIdx.x; b < o.batch; b += kThreads) {
    int rank = b;
    if (sorted) {
      rank = 0;
      for (int other = 0; other < o.batch; other++) {
        rank += keys[other] > keys[b] || (keys[other] == keys[b] && other < b);
      }
    }
    o.plan.order[rank] = b;
  }
  __syncthreads();  // orders global writes and reads of the CTA, too
  if (threadIdx.x >= 32) return;
  int sum = 0;
  for (int first = 0; first < o.batch; first += 32) {
    const int i = first + threadIdx.x;
    int tiles = i < o.batch ? (query_count(o, o.plan.order[i]) + block_m - 1) / block_m : 0;
    for (int step = 1; step < 32; step *= 2) {
      const int other = __shfl_up_sync(0xffffffffu, tiles, step);
      if (static_cast<int>(threadIdx.x) >= step) tiles += other;
    }
    if (i < o.batch) o.plan.first_tile[i + 1] = sum + tiles;
    sum += __shfl_sync(0xffffffffu, tiles, 31);
  }
  if (threadIdx.x == 0) o.plan.first_tile[0] = 0;
}

}  // namespace

void plan_varlen(const TileOrder& order, int block_m, cudaStream_t stream) {
  plan_kernel<<<1, kThreads, 0, stream>>>(order, block_m);
  cuda_check(cudaGetLastError(), "launch of the plan of packed sequences");
}

}  // namespace triage::attention::sm90
