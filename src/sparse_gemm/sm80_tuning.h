// Every number that was tuned for the sm80 family, and the sizes that follow from it. Host code without CUDA headers:
// the registry rows and the kernels' launchers read the same tables.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/schedule.h"
#include "registry/kernel.h"

namespace triage::sm80 {

/// Shape of an spmm or linear kernel: the template arguments of GemmConfig.
struct GemmShape {
  int block;
  int slab;           ///< inner dimension of a block that a pipeline slot holds
  int rows_per_warp;  ///< block rows (block 128: halves of one)
  int warp_n;         ///< columns (tokens)
  int warp_rows, warp_cols;
  int tiles_per_chunk;  ///< dense 16-column tiles loaded ahead of the ones being multiplied
  int sparse_buffers;   ///< 2: a block's fragments are loaded a step ahead
  int max_blocks;       ///< room for a stage's block positions

  constexpr int rows_per_group() const { return block > 64 ? 1 : warp_rows * rows_per_warp; }
  constexpr int parts() const { return block > 64 ? 1 : warp_rows <= kMaxParts ? warp_rows : warp_rows / 2; }
  constexpr int tile_m() const { return rows_per_group() * block; }
  constexpr int tile_n() const { return warp_cols * warp_n; }
};

// 128 accumulators and 168 registers a thread in each: a sub-core holds two consumer warps and one producer warp.
inline constexpr GemmShape kGemmShapes[] = {
    // block slab rows  N  warp grid  ahead  buffers  max blocks
    {16, 16, 2, 128, 8, 1, 2, 2, 64},
    {32, 32, 2, 64, 4, 2, 1, 1, 32},
    {64, 32, 1, 64, 2, 4, 1, 1, 32},
    {128, 64, 1, 64, 2, 4, 1, 1, 32},
};

constexpr const GemmShape& gemm_shape(int block) {
  for (const GemmShape& shape : kGemmShapes) {
    if (shape.block == block) return shape;
  }
  return kGemmShapes[0];
}

/// What a pipeline slot holds, by the shared memory that a block may use.
struct GemmStage {
  int block;
  int shared_kb;        ///< the device offers at least this
  int columns, blocks;  ///< of a stage
  int panel_columns;    ///< N columns that are worked on together
};

// Two to four slots: large stages cost less for their beginnings and ends than many small ones hide.
inline constexpr GemmStage kGemmStages[] = {
    {16, 160, 11, 52, 1024}, {16, 0, 8, 32, 1024}, {32, 160, 5, 16, 1024}, {32, 0, 4, 8, 1024},
    {64, 160, 3, 4, 1024},   {64, 0, 2, 3, 1024},  {128, 0, 1, 1, 1024},
};

constexpr const GemmStage& gemm_stage(int block, std::size_t shared_memory) {
  for (const GemmStage& stage : kGemmStages) {
    if (stage.block == block && shared_memory >= static_cast<std::size_t>(stage.shared_kb) * 1024) return stage;
  }
  return kGemmStages[0];
}

/// Whether the kernel for few columns takes an spmm or linear problem: its tiles are 32 columns wide and read the
/// values again for each, the others' are 128 or 256 wide and too few to occupy the device when there are few columns.
inline bool is_narrow(const SparseGemmProblem& problem, const Device& device) {
  const GemmShape& shape = gemm_shape(problem.block);
  const std::int64_t tiles =
      (problem.rows + shape.tile_m() - 1) / shape.tile_m() * ((problem.dense + shape.tile_n() - 1) / shape.tile_n());
  return problem.dense <= 32 || (problem.dense <= 256 && 2 * tiles < device.multiprocessors);
}

/// Where things lie in the workspace of spmm and linear.
struct GemmWorkspace {
  bool has_counter;  ///< of tiles; it lies at the beginning
  std::size_t partials_offset, bytes;
};

/// @param tiles an upper bound. @param partials elements of split items.
inline GemmWorkspace gemm_workspace(std::int64_t tiles, std::int64_t partials, const Device& device) {
  const bool has_counter = tiles > device.multiprocessors;
  const std::size_t offset = has_counter ? 256 : 0;
  return {has_counter, offset, offset + static_cast<std::size_t>(partials) * sizeof(float)};
}

/// Shape of an sddmm kernel: the template arguments of SddmmConfig.
struct SddmmShape {
  int block;
  int unit_blocks;  ///< neighbouring blocks of a row that share their X panel
  int warp_m, warp_n;
};

inline constexpr SddmmShape kSddmmShapes[] = {{16, 16, 16, 32}, {32, 8, 32, 32}, {64, 4, 32, 64}, {128, 2, 64, 64}};
inline constexpr int kSddmmSlab = 64;  ///< inner dimension that a slot holds: rows of 128 bytes where D is contiguous

constexpr const SddmmShape& sddmm_shape(int block) {
  for (const SddmmShape& shape : kSddmmShapes) {
    if (shape.block == block) return shape;
  }
  return kSddmmShapes[0];
}

/// How sddmm's work is cut: `units` of neighbouring blocks times `splits` of the inner dimension.
struct SddmmSplit {
  std::int32_t units, splits, slabs_per_split;
};

SddmmSplit sddmm_split(const SparseGemmProblem& problem, const Device& device);

// Launchers, one per row of the registry; defined in sm80_spmm_b*.cu, sm80_linear_b*.cu and sm80_sddmm_b*.cu.
template <int kBlock>
void launch_spmm(const SparseGemmCall& call);
template <int kBlock>
void launch_linear(const SparseGemmCall& call);
template <int kBlock>
void launch_sddmm(const SparseGemmCall& call);

}  // namespace triage::sm80
