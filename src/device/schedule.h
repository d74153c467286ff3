// A pattern's arrays and the tile schedule of a block-sparse operand: what the CPU or the GPU builds once per pattern,
// and what the kernels' producers and consumers read. Plain structs, shared by host and device code; needs no CUDA
// header.
//
// Idea: every nonzero block of a row needs the same panel of the dense operand as its neighbours in the rows above and
// below. So `rows_per_group` block rows form a group that one CTA computes, and the dense panel of a block column is
// loaded once for all rows of the group that have a block there (the union of their columns). The union columns are cut
// into stages: what one pipeline stage holds is a few union columns of the dense operand and the blocks that fall into
// them.
#pragma once

#include <cstdint>

namespace triage {

/// What is known of a pattern on the host, for as long as it lives.
struct PatternShape {
  std::int64_t rows = 0, cols = 0, nnz_blocks = 0;
  int block = 0;

  /// Share of the blocks that are nonzero; a little more than 1 is possible if the last ones are ragged.
  constexpr double density() const {
    return rows == 0 || cols == 0 ? 0.0
                                  : static_cast<double>(nnz_blocks) * block * block /
                                        (static_cast<double>(rows) * static_cast<double>(cols));
  }
};

/// The pattern's arrays in the memory of the device of the call.
struct PatternView : PatternShape {
  std::int32_t block_rows = 0, block_cols = 0;
  const std::int32_t* crow = nullptr;  ///< [block_rows + 1]
  const std::int32_t* col = nullptr;   ///< [nnz_blocks]
  const std::int32_t* row = nullptr;   ///< [nnz_blocks]: block row of each block (sddmm)
};

inline constexpr int kMaxRowsPerGroup = 24;
inline constexpr int kMaxColumnsPerStage = 16;
inline constexpr int kMaxParts = 8;

/// What a kernel asks of its schedule. Two kernels with equal specs share one schedule.
struct ScheduleSpec {
  int rows_per_group = 1;  ///< block rows per CTA, 1 .. 24
  int parts = 1;           ///< the rows are divided evenly among this many consumers (warp rows or warpgroups), 1 .. 8,
                           ///< divides rows_per_group
  int columns_per_stage = 1;  ///< most union columns in a stage, 1 .. 16
  int blocks_per_stage = 1;   ///< most blocks in a stage, rows_per_group * column_run .. 255
  int column_run =
      1;  ///< 1, 2 or 4, divides columns_per_stage: union columns come in whole, aligned runs of so many
          ///< neighbours, those without a block (even past the last column) among them; one copy loads a run
  friend bool operator==(const ScheduleSpec&, const ScheduleSpec&) = default;
};

/// One pipeline stage. 128 bytes, so that one warp reads it as one word per lane.
/// Blocks of a stage are ordered by row (hence by part), then by column; `block_order[first_block ..]` lists their
/// positions in `values`. Row r's blocks lie in the columns whose bits are set in row_mask[r], lowest first.
struct alignas(128) StageRecord {
  std::uint8_t column_count;                 // word 0, bits 0-7: union columns in this stage, at least column_run
  std::uint8_t block_count;                  // word 0, bits 8-15
  std::uint16_t reserved;                    // 0
  std::int32_t first_block;                  // word 1: into block_order
  std::uint8_t part_offset[kMaxParts];       // words 2-3: first block of each part, relative to first_block
  std::uint16_t row_mask[kMaxRowsPerGroup];  // words 4-15: bit c set: this row has a block in column c of the stage
  std::int32_t column[kMaxColumnsPerStage];  // words 16-31: block columns, ascending; the tail repeats the last
};
static_assert(sizeof(StageRecord) == 128, "a warp reads a record as 32 words");

/// One item of work: a range of a group's stages. Items are sorted by falling stage count (longest first). A group that
/// is far longer than the rest is split into several items; each then writes fp32 partial sums to slot `split_slot` of
/// the workspace, and a second kernel adds them in slot order (deterministic). A group's stages are contiguous; between
/// the stages of two groups there may be unused records, so read only what an item names.
struct WorkItem {
  std::int32_t group;
  std::int32_t stage_begin;  ///< absolute index into stages
  std::int32_t stage_count;  ///< 0 for a group without blocks
  std::int32_t split_slot;   ///< -1: the item covers its whole group and writes the output itself
};

/// A group that was split: its partial sums lie in slots [slot_begin, slot_begin + slot_count).
struct SplitGroup {
  std::int32_t group;
  std::int32_t slot_begin;
  std::int32_t slot_count;
};

/// Pointers into the memory of a pattern's device. The padding after `stages` and `block_order` (16 records, 256
/// entries) is readable and zero, so that producers may prefetch past the end.
struct ScheduleView {
  ScheduleSpec spec;
  std::int32_t group_count = 0;  ///< ceil(block_rows / rows_per_group)
  const StageRecord* stages = nullptr;
  const std::int32_t* block_order = nullptr;  ///< [nnz_blocks]: position in canonical values of the i-th block consumed
  const WorkItem* items = nullptr;            ///< capacity item_capacity
  const std::int32_t* item_count = nullptr;   ///< device scalar: number of items (group_count + extra splits)
  std::int32_t item_capacity = 0;             ///< upper bound of *item_count known on the host
  const SplitGroup* splits = nullptr;         ///< ascending by group
  const std::int32_t* split_count = nullptr;  ///< device scalar; at most split_slots / 2
  std::int32_t split_slots = 0;  ///< upper bound of the slots in use, known on the host (0: nothing is split)
};

}  // namespace triage
