// spmm and linear on the sm80 family: C = A_bsr * B and Y = act(X * W_bsr^T + bias) through cp.async, ldmatrix,
// mma.sync.
//
// Tile map. A CTA owns a tile of kRowsPerGroup block rows of the sparse matrix by kTileN columns of B (tokens of X).
// The union of its rows' block columns is walked stage by stage as schedule.h lays it out: each panel of the dense
// operand is read from global memory once for all rows of the group that have a block in its column. Tiles are taken in
// panels of `panel_tiles` neighbouring N tiles, which keeps that much of B in L2, and inside a panel longest first;
// CTAs take the next one from a counter.
//
// Pipeline. A ring of `slots` in shared memory; a slot holds `columns_per_stage` panels, `blocks_per_stage` blocks and
// a record, all cut to kSlab of the block's inner dimension. Sizes are run-time values: one instantiation serves
// devices of 99 KB and of 227 KB.
//
// Warps
// - consumers 0 .. kConsumers-1: warp (wr, wc) owns kRowsPerWarp block rows (half a row at block 128) by kWarpN columns
// - producers, kProducers of them: walk the schedule ahead and copy
//
// Barriers of a slot
// - full: 32 * kProducers + 1 arrivals, of each producer lane when its copies have landed, and of the record's writer;
//   consumers wait
// - empty: kConsumers arrivals, of each consumer warp when it has read the slot; producers wait
//
// Roles of mma.sync (D[16,8] += A[16,16] * B[16,8]): spmm puts the sparse block on the A side, linear the tokens, so
// that D lies like the output in both, and neither transposes anything.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "device/epilogue.h"
#include "ptx/mbarrier.h"
#include "sparse_gemm/sm80_gemm_config.h"
#include "sparse_gemm/sm80_gemm_consumer.h"
#include "sparse_gemm/sm80_gemm_producer.h"

namespace triage::sm80 {

template <typename Config>
__global__ void __launch_bounds__(Config::kThreads, 1) gemm_kernel(const __grid_constant__ GemmParams p) {
  extern __shared__ __align__(256) unsigned char shared[];
  const int warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
  const std::uint32_t ring = ptx::shared_address(shared) + p.ring_offset;
  for (int slot = threadIdx.x; slot < p.slots; slot += Config::kThreads) {
    const std::uint32_t tail = ring + slot * p.slot_bytes + p.tail_offset;
    ptx::mbarrier_init(tail + kFull, 32 * Config::kProducers + 1);
    ptx::mbarrier_init(tail + kEmpty, Config::kConsumers);
  }
  __syncthreads();
  if (warp < Config::kConsumers) {
    consume<Config>(p, ring, warp);
  } else {
    produce<Config>(p, shared, warp - Config::kConsumers, lane);
  }
}

/// Adds the partial sums of split groups in slot order and finishes them. @param tile_m rows of the sparse matrix in a
/// group.
template <typename Element, bool kLinear>
__global__ void combine_kernel(const __grid_constant__ GemmParams p, int tile_m, std::int64_t padded_n) {
  const std::int64_t slot_size = tile_m * padded_n;
  const std::int64_t cols = kLinear ? tile_m : padded_n;
  for (int s = blockIdx.y; s < *p.split_count; s += gridDim.y) {
    const SplitGroup split = p.splits[s];
    const std::int64_t m0 = static_cast<std::int64_t>(split.group) * tile_m;
    const std::int64_t row0 = kLinear ? 0 : m0, col0 = kLinear ? m0 : 0;
    const std::int64_t thread = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    for (std::int64_t i = thread; i < slot_size; i += std::int64_t{gridDim.x} * blockDim.x) {
      const std::int64_t row = row0 + i / cols, col = col0 + i % cols;
      if (row >= p.epilogue.rows || col >= p.epilogue.cols) continue;
      const float* partial = p.partials + split.slot_begin * slot_size + i;
      float sum = 0.0f;
      for (int k = 0; k < split.slot_count; k++) sum += partial[k * slot_size];
      constexpr auto kFinish = kLinear ? device::Finish::bias_activation : device::Finish::scale;
      device::store_element<Element, kFinish>(p.epilogue, row, col, sum);
    }
  }
}

}  // namespace triage::sm80
