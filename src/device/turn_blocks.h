// The values of a pattern as its transposed twin has them: in its order of blocks, each block transposed. On the GPU.
#pragma once

#include <cstdint>

namespace triage {

struct TurnedBlocks {
  const void* values = nullptr;
  const std::int32_t* positions = nullptr;  ///< block i of the result is block positions[i] of `values`, transposed
  std::int64_t nnz = 0;
  int block = 0;  ///< 16, 32, 64 or 128
};

/// Writes `to` [nnz, block, block], 16-byte aligned. Elements have 2 bytes.
void turn_blocks_cuda(const TurnedBlocks& blocks, void* to, void* stream);

}  // namespace triage
