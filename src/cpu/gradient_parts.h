// What the gradients of the sparse products need besides the products: blocks transposed, and sums of columns.
#pragma once

#include <cstdint>

#include "registry/kernel.h"

namespace triage::cpu {

/// to[i] = transpose of values[positions[i]], for blocks of `block` x `block` elements of 2, 4 or 8 bytes.
void turn_blocks(const void* values, const std::int32_t* positions, std::int64_t nnz, int block, int element_bytes,
                 void* to);

/// to[c] = sum of matrix[r][c] over r, from the first row to the last; 16-bit types are summed in float.
void sum_columns(const Matrix& matrix, DType dtype, void* to);

}  // namespace triage::cpu
