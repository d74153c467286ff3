// Packed values: blocks in the order in which the kernels for blocks of 16 and 32 consume them, each swizzled as wgmma
// reads it from shared memory, so that one bulk copy brings all blocks of a stage.
#pragma once

#include <cstdint>

#include "ptx/dependent_launch.h"
#include "ptx/wgmma.h"

namespace triage::sm90 {

struct PackParams {
  const uint4* values = nullptr;
  uint4* packed = nullptr;
  const std::int32_t* block_order = nullptr;  ///< nullptr: canonical order, not swizzled (blocks of 64 and 128)
  const std::int32_t* col = nullptr;  ///< block column of each canonical block; nullptr if no block column is ragged
  std::int64_t nnz = 0;
  std::int64_t cols = 0;                 ///< elements; what lies beyond becomes 0, whatever stood there
  std::int32_t* tile_counter = nullptr;  ///< cleared for the kernel that follows, if given
};

/// 16 bytes a thread.
template <int kBlock>
__global__ void __launch_bounds__(256) pack_kernel(const __grid_constant__ PackParams params) {
  constexpr int kChunks = kBlock * kBlock / 8, kRowChunks = kBlock / 8;
  ptx::let_next_kernel_start();  // it waits for the values, but not to set up its barriers
  if (params.tile_counter != nullptr && blockIdx.x == 0 && threadIdx.x == 0) *params.tile_counter = 0;
  const std::int64_t total = params.nnz * kChunks, step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    const std::int64_t position = i / kChunks;
    const int chunk = static_cast<int>(i % kChunks), r = chunk / kRowChunks, c = chunk % kRowChunks;
    const std::int64_t source = params.block_order != nullptr ? params.block_order[position] : position;
    uint4 words = __ldg(params.values + source * kChunks + chunk);
    const std::int64_t valid =
        params.col == nullptr ? 8 : params.cols - static_cast<std::int64_t>(params.col[source]) * kBlock - c * 8;
    if (valid < 8) {
      auto* elements = reinterpret_cast<std::uint16_t*>(&words);
#pragma unroll
      for (int e = 0; e < 8; e++) {
        if (e >= valid) elements[e] = 0;
      }
    }
    int offset = chunk;
    if constexpr (kBlock < 64) {
      if (params.block_order != nullptr) offset = ptx::swizzled_offset<2 * kBlock>(r, c) / 16;
    }
    params.packed[position * kChunks + offset] = words;
  }
}

}  // namespace triage::sm90
