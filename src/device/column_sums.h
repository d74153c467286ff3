// Sums over the rows of a matrix on the GPU, for the gradient of a bias.
#pragma once

#include <cstddef>
#include <cstdint>

namespace triage {

/// float16 or bfloat16, row-major.
struct ColumnSums {
  const void* data = nullptr;
  std::int64_t rows = 0, cols = 0, stride = 0;  ///< in elements
  bool bfloat16 = false;
};

/// Writes `to` [cols] in the matrix's dtype, from sums in fp32 whose order is fixed.
void sum_columns_cuda(const ColumnSums& sums, void* to, void* workspace, void* stream);
std::size_t sum_columns_cuda_workspace_bytes(const ColumnSums& sums);

}  // namespace triage
