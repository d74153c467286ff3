// movmatrix: transposes an 8x8 matrix of 16-bit elements that lies across a warp (sm_75 and later).
#pragma once

#include <cstdint>

namespace triage::ptx {

/// Lane l gives row l / 4, columns 2 (l % 4) and the next; it gets column l / 4, rows 2 (l % 4) and the next.
__device__ __forceinline__ std::uint32_t transpose_8x8(std::uint32_t row_pair) {
  std::uint32_t column_pair;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(column_pair) : "r"(row_pair));
  return column_pair;
}

}  // namespace triage::ptx
