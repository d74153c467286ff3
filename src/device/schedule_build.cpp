#include "device/schedule_build.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <string>

#include "triage/error.h"

namespace triage {

namespace {

void check_spec(const ScheduleSpec& s) {
  const auto fail = [](const std::string& what) { throw Error(ErrorCode::invalid_argument, "schedule spec: " + what); };
  if (s.rows_per_group < 1 || s.rows_per_group > kMaxRowsPerGroup) {
    fail("rows_per_group is " + std::to_string(s.rows_per_group) + ", accepted: 1 to 24");
  }
  if (s.parts < 1 || s.parts > kMaxParts || s.rows_per_group % s.parts != 0) {
    fail("parts is " + std::to_string(s.parts) + ", accepted: 1 to 8, a divisor of rows_per_group");
  }
  if (s.columns_per_stage < 1 || s.columns_per_stage > kMaxColumnsPerStage) {
    fail("columns_per_stage is " + std::to_string(s.columns_per_stage) + ", accepted: 1 to 16");
  }
  if ((s.column_run != 1 && s.column_run != 2 && s.column_run != 4) || s.columns_per_stage % s.column_run != 0) {
    fail("column_run is " + std::to_string(s.column_run) + ", accepted: 1, 2 or 4, a divisor of columns_per_stage");
  }
  if (s.blocks_per_stage < s.rows_per_group * s.column_run || s.blocks_per_stage > 255) {
    fail("blocks_per_stage is " + std::to_string(s.blocks_per_stage) +
         ", accepted: rows_per_group * column_run to 255");
  }
}

// One column of a group that some of its rows have a block in; bit r of the mask is row r of the group.
struct UnionColumn {
  std::int32_t column;
  std::uint32_t rows;
};

// The columns of a group's rows, merged: ascending, each once.
void merge_rows(const std::int32_t* crow, const std::int32_t* col, std::int32_t first_row, int rows,
                std::vector<UnionColumn>& merged) {
  merged.clear();
  std::int32_t next[kMaxRowsPerGroup];
  for (int r = 0; r < rows; r++) next[r] = crow[first_row + r];
  for (;;) {
    std::int32_t column = std::numeric_limits<std::int32_t>::max();
    for (int r = 0; r < rows; r++) {
      if (next[r] < crow[first_row + r + 1]) column = std::min(column, col[next[r]]);
    }
    if (column == std::numeric_limits<std::int32_t>::max()) return;
    std::uint32_t mask = 0;
    for (int r = 0; r < rows; r++) {
      if (next[r] < crow[first_row + r + 1] && col[next[r]] == column) {
        mask |= 1u << r;
        next[r]++;
      }
    }
    merged.push_back({column, mask});
  }
}

// Adds the columns without a block that belong to runs with one.
void complete_runs(int run, std::vector<UnionColumn>& merged, std::vector<UnionColumn>& completed) {
  completed.clear();
  for (std::size_t i = 0; i < merged.size();) {
    const std::int32_t first = merged[i].column / run * run;
    for (std::int32_t column = first; column < first + run; column++) {
      const bool has_block = i < merged.size() && merged[i].column == column;
      completed.push_back({column, has_block ? merged[i++].rows : 0});
    }
  }
  merged.swap(completed);
}

// How many of the columns from `begin` on fit one stage.
int columns_that_fit(const ScheduleSpec& spec, const std::vector<UnionColumn>& merged, std::size_t begin) {
  int count = 0, blocks = 0;
  while (begin + count < merged.size() && count < spec.columns_per_stage) {
    for (int i = 0; i < spec.column_run; i++) blocks += std::popcount(merged[begin + count + i].rows);
    if (blocks > spec.blocks_per_stage) break;
    count += spec.column_run;
  }
  return count;
}

// Writes one stage and its piece of block_order. `next[r]` is row r's first block that no earlier stage holds.
// Returns the number of blocks.
int write_stage(const ScheduleSpec& spec, const UnionColumn* columns, int count, std::int32_t first_block,
                std::int32_t* next, StageRecord& stage, std::int32_t* block_order) {
  stage = StageRecord{};
  stage.column_count = static_cast<std::uint8_t>(count);
  stage.first_block = first_block;
  for (int c = 0; c < kMaxColumnsPerStage; c++) stage.column[c] = columns[std::min(c, count - 1)].column;
  const int rows_per_part = spec.rows_per_group / spec.parts;
  int blocks = 0;
  for (int r = 0; r < spec.rows_per_group; r++) {
    if (r % rows_per_part == 0) stage.part_offset[r / rows_per_part] = static_cast<std::uint8_t>(blocks);
    for (int c = 0; c < count; c++) {
      if ((columns[c].rows >> r & 1u) == 0) continue;
      stage.row_mask[r] = static_cast<std::uint16_t>(stage.row_mask[r] | 1u << c);
      block_order[first_block + blocks++] = next[r]++;
    }
  }
  for (int p = spec.parts; p < kMaxParts; p++) stage.part_offset[p] = static_cast<std::uint8_t>(blocks);
  stage.block_count = static_cast<std::uint8_t>(blocks);
  return blocks;
}

// Splits long groups; `items` holds every group whole, in order.
void split_long_groups(const SchedulePlan& plan, const std::vector<WorkItem>& items, std::int32_t max_split_slots,
                       const ScheduleArrays& out) {
  ScheduleCounts& counts = *out.counts;
  const std::int64_t limit = split_limit(counts.total_stages, plan.group_count, plan.multiprocessors);
  std::int64_t wanted_slots = 0;
  for (const WorkItem& item : items) {
    const std::int64_t pieces = (item.stage_count + limit - 1) / limit;
    if (pieces >= 2) wanted_slots += pieces;
    if (pieces < 2 || wanted_slots > max_split_slots) {
      out.split_items[counts.split_item_count++] = item;
      continue;
    }
    out.splits[counts.split_count++] = {item.group, counts.split_slots, static_cast<std::int32_t>(pieces)};
    for (std::int64_t k = 0; k < pieces; k++) {
      const auto begin = static_cast<std::int32_t>(item.stage_count * k / pieces);
      const auto end = static_cast<std::int32_t>(item.stage_count * (k + 1) / pieces);
      out.split_items[counts.split_item_count++] = {item.group, item.stage_begin + begin, end - begin,
                                                    counts.split_slots++};
    }
  }
}

void sort_items(WorkItem* items, std::int32_t count) {
  std::stable_sort(items, items + count,
                   [](const WorkItem& a, const WorkItem& b) { return a.stage_count > b.stage_count; });
}

}  // namespace

SchedulePlan plan_schedule(const ScheduleSpec& spec, std::int32_t block_rows, std::int32_t block_cols, std::int64_t nnz,
                           std::int32_t multiprocessors) {
  check_spec(spec);
  SchedulePlan plan;
  plan.spec = spec;
  plan.block_rows = block_rows;
  plan.block_cols = block_cols;
  plan.nnz = static_cast<std::int32_t>(nnz);
  plan.multiprocessors = std::max(multiprocessors, 1);
  plan.group_count = (block_rows + spec.rows_per_group - 1) / spec.rows_per_group;

  // Compare 1 / min(C, S - R + 1) with 1 / C + 2 / S (see SchedulePlan).
  const std::int64_t c = spec.columns_per_stage / spec.column_run, s = spec.blocks_per_stage;
  const std::int64_t least_blocks = std::min<std::int64_t>(c, s - spec.rows_per_group * spec.column_run + 1);
  plan.slots_num = 1;
  plan.slots_den = least_blocks;
  if ((s + 2 * c) * least_blocks < c * s) {
    plan.slots_num = s + 2 * c;
    plan.slots_den = c * s;
  }
  plan.stage_capacity = plan.first_stage(plan.group_count, plan.nnz);
  if (nnz > std::numeric_limits<std::int32_t>::max() - kBlockOrderPadding ||
      plan.stage_capacity > std::numeric_limits<std::int32_t>::max() - kStagePadding) {
    throw Error(ErrorCode::unsupported, "a schedule for " + std::to_string(nnz) +
                                            " blocks needs indices past 32 bits; use larger blocks or fewer of them");
  }
  plan.split_slot_capacity = static_cast<std::int32_t>(
      std::min({plan.stage_capacity / 8, std::int64_t{plan.group_count}, std::int64_t{4} * plan.multiprocessors}));
  return plan;
}

ScheduleView view_schedule(const SchedulePlan& plan, const ScheduleArrays& arrays, std::int32_t split_slots) {
  ScheduleView view;
  view.spec = plan.spec;
  view.group_count = plan.group_count;
  view.stages = arrays.stages;
  view.block_order = arrays.block_order;
  view.splits = arrays.splits;
  view.split_count = &arrays.counts->split_count;
  view.split_slots = split_slots;
  view.items = split_slots > 0 ? arrays.split_items : arrays.items;
  view.item_count = split_slots > 0 ? &arrays.counts->split_item_count : &arrays.counts->item_count;
  view.item_capacity = plan.group_count + split_slots;
  return view;
}

void build_schedule(const SchedulePlan& plan, const std::int32_t* crow, const std::int32_t* col,
                    std::int32_t max_split_slots, const ScheduleArrays& out) {
  const ScheduleSpec& spec = plan.spec;
  *out.counts = ScheduleCounts{};
  std::vector<WorkItem> items;
  items.reserve(plan.group_count);
  std::vector<UnionColumn> merged, completed;
  for (std::int32_t group = 0; group < plan.group_count; group++) {
    const std::int32_t first_row = group * spec.rows_per_group;
    const int rows = std::min(spec.rows_per_group, plan.block_rows - first_row);
    merge_rows(crow, col, first_row, rows, merged);
    if (spec.column_run > 1) complete_runs(spec.column_run, merged, completed);

    std::int32_t next[kMaxRowsPerGroup] = {};
    for (int r = 0; r < rows; r++) next[r] = crow[first_row + r];
    std::int32_t block = crow[first_row];
    const auto first_stage = static_cast<std::int32_t>(plan.first_stage(group, block));
    std::int32_t stage = first_stage;
    for (std::size_t begin = 0; begin < merged.size();) {
      const int count = columns_that_fit(spec, merged, begin);
      block += write_stage(spec, &merged[begin], count, block, next, out.stages[stage++], out.block_order);
      begin += count;
    }
    items.push_back({group, first_stage, stage - first_stage, -1});
    out.counts->total_stages += stage - first_stage;
    out.counts->longest = std::max(out.counts->longest, stage - first_stage);
  }
  if (plan.group_count > 0) split_long_groups(plan, items, std::min(max_split_slots, plan.split_slot_capacity), out);
  out.counts->item_count = plan.group_count;
  std::copy(items.begin(), items.end(), out.items);
  sort_items(out.items, out.counts->item_count);
  sort_items(out.split_items, out.counts->split_item_count);
}

HostSchedule::HostSchedule(const ScheduleSpec& spec, std::int32_t block_rows, std::int32_t block_cols,
                           const std::int32_t* crow, const std::int32_t* col, std::int32_t multiprocessors)
    : plan(plan_schedule(spec, block_rows, block_cols, crow[block_rows], multiprocessors)),
      stages(plan.stage_capacity + kStagePadding),
      block_order(static_cast<std::size_t>(plan.nnz) + kBlockOrderPadding),
      items(plan.group_count),
      split_items(static_cast<std::size_t>(plan.group_count) + plan.split_slot_capacity),
      splits(plan.split_slot_capacity / 2) {
  build_schedule(plan, crow, col, plan.split_slot_capacity, arrays());
}

ScheduleArrays HostSchedule::arrays() {
  return {stages.data(), block_order.data(), items.data(), split_items.data(), splits.data(), &counts};
}

ScheduleView HostSchedule::view(bool split) { return view_schedule(plan, arrays(), split ? counts.split_slots : 0); }

}  // namespace triage
