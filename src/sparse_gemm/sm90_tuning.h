// The settings of the sm90 kernels, and what follows from them on the host: schedules, workspaces, panels. One setting
// per block size; docs/sparse_gemm.md has the measurements behind them. Needs no CUDA header.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "registry/kernel.h"

namespace triage::sm90 {

/// Shared memory that every configuration counts on.
inline constexpr std::size_t kSharedMemory = 227 * 1024;

/// spmm and linear. | block | why these; "thin" patterns have less than 12% of their blocks, see is_thin
/// 16: 384 rows a CTA use each dense column 5.3 times at density 0.22; two big stages beat many small ones. linear's
///     dense columns are 32 bytes a token, too short for the copy engine: it takes runs of four.
/// 32: the same rows; three stages of four columns, linear two of three runs of two. Thin: a column has 1.3 blocks at
///     0.05, so a stage has less room for blocks and one more column; runs would be half empty.
/// 64: the same rows; blocks on wgmma's M side, two columns a slot (with one: 420 TFLOP/s, with two: 520). Thin: rows
///     share few columns, and fewer rows leave room to store late and make more tiles: 256 rows a CTA, linear 128.
/// 128: one block row a CTA, slots of 64 k, and four output buffers for the many short tiles.
struct ProductShape {
  int rows;         ///< block rows of a CTA
  int columns;      ///< most union columns of a stage
  int blocks;       ///< most blocks of a stage
  int stages;       ///< of the pipeline
  int strip_slots;  ///< blocks of 64 and 128: strips of 64 x 64 in flight
  int buffers;      ///< output chunks in flight per warpgroup
  int panel_share;  ///< a panel of the dense operand takes this part of L2: 1 / panel_share
  int ahead;        ///< stages that the planner is ahead of producer and consumers
  int run;          ///< union columns come in runs of so many neighbours
  friend constexpr bool operator==(const ProductShape&, const ProductShape&) = default;
};

/// Columns of the dense operand (tokens) of a CTA.
constexpr int product_tokens(int block) { return block == 128 ? 256 : 128; }

/// Whether packed values lie in the order of the schedule, swizzled; else canonically, with zeros in their padding.
constexpr bool swizzles_values(int block) { return block < 64; }

/// @param thin see is_thin.
constexpr ProductShape product_shape(int block, bool linear, bool thin) {
  switch (block) {
    case 16:
      return linear ? ProductShape{24, 12, 96, 2, 0, 4, 12, 6, 4} : ProductShape{24, 16, 64, 2, 0, 4, 12, 6, 1};
    case 32:
      if (thin) return {12, 5, 12, 3, 0, 4, 12, 8, 1};
      return linear ? ProductShape{12, 6, 24, 2, 0, 4, 12, 8, 2} : ProductShape{12, 4, 16, 3, 0, 4, 12, 8, 1};
    case 64:
      if (thin) return linear ? ProductShape{2, 2, 4, 4, 9, 2, 12, 10, 1} : ProductShape{4, 2, 8, 4, 10, 2, 12, 10, 1};
      return {6, 2, 12, 3, 14, 2, 12, 10, 1};
    default:
      return {1, 1, 1, 4, 8, 4, 6, 6, 1};
  }
}

/// Whether a pattern has so few blocks that a dense column is hardly shared: neighbouring columns that come along in a
/// run are loaded in vain, and fewer rows a CTA lose little.
constexpr bool is_thin(const PatternShape& pattern) { return pattern.density() < 0.12; }

constexpr ScheduleSpec product_schedule(const PatternShape& pattern, bool linear) {
  const ProductShape shape = product_shape(pattern.block, linear, is_thin(pattern));
  return {shape.rows, pattern.block == 128 ? 1 : 2, shape.columns, shape.blocks, shape.run};
}

/// sddmm: rows of a tile; it has 128 * 256 / rows gathered columns. 64 rows of blocks of 64 have columns of their own,
/// so that nothing is computed in vain, and two block rows of 32 share more than four; both for half as much again to
/// read. With blocks of 16 a union of four block rows has too few columns for 512 (a stage holds 16).
constexpr int sddmm_tile_rows(int block) { return block == 32 || block == 64 ? 64 : 128; }
/// CTAs that share the rows of X. (With blocks of 16 it gained nothing: Y's boxes are the bottleneck.)
constexpr int sddmm_cluster(int block) { return block == 128 ? 2 : 1; }
/// Groups of rows whose tiles are computed together, so that X stays in L2.
inline constexpr int kSddmmPanel = 32;

constexpr ScheduleSpec sddmm_schedule(int block) {
  const int rows = sddmm_tile_rows(block) / block, columns = 128 * 256 / sddmm_tile_rows(block) / block;
  return {rows, 1, columns, rows * columns};
}

/// CTAs of a cluster share the sparse blocks and take neighbouring tokens. One alone is better if there are no
/// neighbours, and with blocks of 16, where waiting for the neighbour costs more than it saves.
inline int product_cluster(const SparseGemmProblem& problem) {
  return problem.block == 16 || problem.dense <= product_tokens(problem.block) ? 1 : 2;
}

/// Whether the call must rewrite canonical values into its workspace first: always for blocks of 16 and 32 (reading
/// them in place is slower), else only if the last block column is ragged, since its padding may hold anything.
inline bool product_packs(const SparseGemmProblem& problem) {
  if (problem.values_layout == ValuesLayout::packed) return false;
  return swizzles_values(problem.block) || problem.cols % problem.block != 0;
}

/// The most columns (tokens) that count as few.
inline constexpr int kFewColumns = 64;

/// Whether the kernel for few columns (sm90_few_columns.h) takes an spmm or linear problem: it reads canonical values,
/// and so do the others in that order of bytes, except packed values of blocks of 16 and 32.
inline bool takes_few_columns(const SparseGemmProblem& problem) {
  const bool swizzled = problem.values_layout == ValuesLayout::packed && swizzles_values(problem.block);
  return problem.dense <= kFewColumns && !swizzled;
}

/// Blocks of 32 and more with 17 to 32 columns: sm80_narrow.h shares the dense operand in shared memory and reaches 2.5
/// TB/s of values, where sm90_few_columns.h reaches 2.0. Packed values stay with the kernel they are packed for.
inline bool leaves_to_sm80(const SparseGemmProblem& problem) {
  return problem.values_layout == ValuesLayout::canonical && problem.block >= 32 && problem.dense > 16 &&
         problem.dense <= 32;
}

/// Warps of a CTA, and CTAs of a cluster, among which it splits the k of a strip of 16 rows.
struct FewColumnsShape {
  int warps, splits;
};

/// As many warps as run at once (32 on a multiprocessor); a cluster only where not every multiprocessor would have a
/// strip, since clusters are slow to start; neither more than there are batches of 64 k in a row, on average.
inline FewColumnsShape few_columns_shape(const SparseGemmProblem& problem, std::int64_t strips, int max_warps,
                                         int multiprocessors) {
  const double row_length =
      static_cast<double>(problem.nnz_blocks) * problem.block * problem.block / static_cast<double>(problem.rows);
  FewColumnsShape shape{4, 1};
  while (shape.warps < max_warps && 2 * shape.warps * strips <= std::int64_t{32} * multiprocessors) shape.warps *= 2;
  while (shape.splits < 8 && 2 * shape.splits * strips <= std::int64_t{2} * multiprocessors &&
         2 * shape.splits * shape.warps <= row_length / 64) {
    shape.splits *= 2;
  }
  return shape;
}

/// Bytes of the packed dense operand; up to 16 columns are read in place.
inline std::size_t few_columns_workspace(const SparseGemmProblem& problem) {
  if (problem.dense <= 16) return 0;
  const std::int64_t inner = (problem.cols + problem.block - 1) / problem.block * problem.block;
  return static_cast<std::size_t>(inner) * (problem.dense <= 32 ? 32 : 64) * 2;
}

/// Where things lie in the workspace. The first 256 bytes hold the tile counter.
struct ProductWorkspace {
  std::size_t packed = 256;
  std::size_t partial = 256;
  std::size_t bytes = 256;
};

inline ProductWorkspace product_workspace(const SparseGemmProblem& problem, const ScheduleView& schedule) {
  const std::int64_t cluster_tokens = std::int64_t{product_tokens(problem.block)} * product_cluster(problem);
  const std::int64_t tokens = (problem.dense + cluster_tokens - 1) / cluster_tokens * cluster_tokens;
  const std::size_t values = static_cast<std::size_t>(problem.nnz_blocks) * problem.block * problem.block * 2;
  ProductWorkspace workspace;
  workspace.partial = workspace.packed + (product_packs(problem) ? (values + 255) / 256 * 256 : 0);
  workspace.bytes = workspace.partial + static_cast<std::size_t>(schedule.split_slots) * schedule.spec.rows_per_group *
                                            problem.block * static_cast<std::size_t>(tokens) * sizeof(float);
  return workspace;
}

}  // namespace triage::sm90
