// Building a pattern's arrays where they live: functions ending in _cpu work on host memory, those in _cuda enqueue on
// a stream of the current device and neither allocate nor synchronise unless they say so. Twins give identical results.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/schedule_build.h"

namespace triage {

/// One direction of a pattern, writable.
struct PatternArrays {
  std::int32_t block_rows = 0, block_cols = 0, nnz = 0;
  std::int32_t* crow = nullptr;       ///< [block_rows + 1]
  std::int32_t* col = nullptr;        ///< [nnz]
  std::int32_t* row = nullptr;        ///< [nnz]
  std::int32_t* positions = nullptr;  ///< [nnz]: block i of the *other* direction is block positions[i] here
};

/// Index arrays as the caller holds them.
struct BsrArrays {
  const void* crow = nullptr;
  int crow_bits = 32;  ///< 32 or 64
  const void* col = nullptr;
  int col_bits = 32;
};

/// Checks host arrays. @throws Error(invalid_argument) naming the first offending row and entry.
void validate_bsr_cpu(const BsrArrays& bsr, std::int32_t block_rows, std::int32_t block_cols, std::int64_t nnz);

/// Fills crow and col from valid arrays.
void copy_bsr_cpu(const BsrArrays& bsr, const PatternArrays& pattern);
void copy_bsr_cuda(const BsrArrays& bsr, const PatternArrays& pattern, void* stream);

/// Sets *invalid (on the device) if the arrays are not a valid BSR structure, else clears it. Reads no entry out of
/// bounds.
void check_bsr_cuda(const BsrArrays& bsr, std::int32_t block_rows, std::int32_t block_cols, std::int64_t nnz,
                    std::int32_t* invalid, void* stream);

/// From crow and col: row of `pattern`, and all of its transposed twin.
void build_twin_cpu(const PatternArrays& pattern, const PatternArrays& twin);
void build_twin_cuda(const PatternArrays& pattern, const PatternArrays& twin, void* scratch, void* stream);
std::size_t build_twin_cuda_scratch_bytes(std::int64_t nnz);

/// Builds a schedule as build_schedule (schedule_build.h) does.
void build_schedule_cuda(const SchedulePlan& plan, const std::int32_t* crow, const std::int32_t* col,
                         std::int32_t max_split_slots, const ScheduleArrays& arrays, void* scratch, void* stream);
std::size_t build_schedule_cuda_scratch_bytes(const SchedulePlan& plan);

/// A mask of blocks, one byte each, nonzero where a block exists.
struct BlockMask {
  const std::uint8_t* data = nullptr;
  std::int64_t stride = 0;  ///< bytes from row to row
  std::int32_t block_rows = 0, block_cols = 0;
};

/// Row pointers of a mask, crow[block_rows] is the number of blocks. Sums past int32 come out as -1.
void mask_to_crow_cpu(const BlockMask& mask, std::int32_t* crow);
void mask_to_crow_cuda(const BlockMask& mask, std::int32_t* crow, void* stream);
/// Column indices of a mask whose crow is known.
void mask_to_col_cpu(const BlockMask& mask, const std::int32_t* crow, std::int32_t* col);
void mask_to_col_cuda(const BlockMask& mask, const std::int32_t* crow, std::int32_t* col, void* stream);

/// A dense matrix of 2-, 4- or 8-byte floating-point elements, inner stride 1.
struct DenseMatrix {
  void* data = nullptr;
  int element_bytes = 2;
  std::int64_t rows = 0, cols = 0, stride = 0;  ///< stride in elements
};

/// Writes the packed mask [ceil(rows/block), ceil(cols/block)] of blocks that hold anything but zeros (of either sign).
void dense_to_mask_cpu(const DenseMatrix& matrix, int block, std::uint8_t* mask);
void dense_to_mask_cuda(const DenseMatrix& matrix, int block, std::uint8_t* mask, void* stream);

/// Copies blocks between a dense matrix and values [nnz, block, block]. `gather` zeroes the padding of ragged blocks,
/// `scatter` writes blocks only: clear the matrix first.
void gather_blocks_cpu(const PatternView& pattern, const DenseMatrix& matrix, void* values);
void gather_blocks_cuda(const PatternView& pattern, const DenseMatrix& matrix, void* values, void* stream);
void scatter_blocks_cpu(const PatternView& pattern, const void* values, const DenseMatrix& matrix);
void scatter_blocks_cuda(const PatternView& pattern, const void* values, const DenseMatrix& matrix, void* stream);

/// Sets a dense matrix to zero, leaving what lies between its rows.
void clear_matrix_cpu(const DenseMatrix& matrix);
void clear_matrix_cuda(const DenseMatrix& matrix, void* stream);

/// Whether this build's GPU code loads on the current device. May create its context.
bool cuda_code_loads();

}  // namespace triage
