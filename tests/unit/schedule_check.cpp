#include "unit/schedule_check.h"

#include <algorithm>
#include <bit>
#include <map>
#include <random>
#include <set>

namespace triage::test {

namespace {

struct Broken {
  std::string what;
};

template <typename... Parts>
void require(bool holds, const char* promise, Parts... where) {
  if (holds) return;
  std::string text = promise;
  ((text += " " + std::to_string(where)), ...);
  throw Broken{text};
}

// Row r's blocks of a stage, and that they stand in block_order where they should.
void check_stage(const ScheduleInMemory& s, const PatternCase& p, std::int32_t group, std::int32_t index,
                 std::vector<int>& seen) {
  const ScheduleSpec& spec = s.plan.spec;
  const StageRecord& stage = s.stages[index];
  const int count = stage.column_count;
  require(count >= 1 && count <= spec.columns_per_stage, "column_count", index, count);
  require(stage.block_count <= spec.blocks_per_stage, "block_count", index, stage.block_count);
  require(stage.reserved == 0, "reserved is 0", index);
  const int run = spec.column_run;
  require(count % run == 0, "whole runs", index, count);
  for (int c = 1; c < count; c++) require(stage.column[c] > stage.column[c - 1], "columns ascend", index, c);
  for (int c = 0; c < count; c++) {
    require(stage.column[c] == stage.column[c / run * run] + c % run, "a run's columns are neighbours", index, c);
    require(stage.column[c / run * run] % run == 0, "runs are aligned", index, c);
  }
  for (int c = count; c < kMaxColumnsPerStage; c++) {
    require(stage.column[c] == stage.column[count - 1], "the tail repeats the last column", index, c);
  }
  unsigned used_columns = 0;
  int blocks = 0;
  for (int r = 0; r < kMaxRowsPerGroup; r++) {
    if (r < spec.rows_per_group && r % (spec.rows_per_group / spec.parts) == 0) {
      require(stage.part_offset[r / (spec.rows_per_group / spec.parts)] == blocks, "part_offset", index, r);
    }
    const std::int32_t row = group * spec.rows_per_group + r;
    const bool exists = r < spec.rows_per_group && row < p.block_rows;
    require(exists || stage.row_mask[r] == 0, "no bits for rows that are not there", index, r);
    require(stage.row_mask[r] >> count == 0, "no bits for columns that are not there", index, r);
    used_columns |= stage.row_mask[r];
    for (int c = 0; c < count; c++) {
      if (!exists) continue;
      const bool bit = stage.row_mask[r] >> c & 1;
      require(bit == (stage.column[c] < p.block_cols && p.has(row, stage.column[c])), "row_mask is the pattern", index,
              r, c);
      if (!bit) continue;
      const std::int32_t position = s.block_order[stage.first_block + blocks++];
      require(position >= p.crow[row] && position < p.crow[row + 1], "block_order stays in the row", index, r, c);
      require(p.col[position] == stage.column[c], "block_order names the block", index, r, c);
      seen[position]++;
    }
  }
  require(blocks == stage.block_count, "block_count counts the blocks", index);
  for (int c = 0; c < count; c += run)
    require((used_columns >> c & ((1u << run) - 1)) != 0, "every run has a block", index);
  for (int part = spec.parts; part < kMaxParts; part++) {
    require(stage.part_offset[part] == blocks, "part_offset past the parts", index, part);
  }
}

// Stages are cut only when the next column would exceed a limit.
void check_cut(const ScheduleInMemory& s, std::int32_t index) {
  const StageRecord &stage = s.stages[index], &next = s.stages[index + 1];
  require(next.column[0] > stage.column[stage.column_count - 1], "columns ascend from stage to stage", index);
  int next_blocks = 0;
  const unsigned first_run = (1u << s.plan.spec.column_run) - 1;
  for (const std::uint16_t mask : next.row_mask) next_blocks += std::popcount(mask & first_run);
  require(stage.column_count == s.plan.spec.columns_per_stage ||
              stage.block_count + next_blocks > s.plan.spec.blocks_per_stage,
          "stages are as full as they can be", index);
}

void check_items(const ScheduleInMemory& s, const PatternCase& p) {
  std::map<std::int32_t, std::vector<WorkItem>> by_group;
  for (std::int32_t i = 0; i < s.item_count; i++) {
    const WorkItem& item = s.items[i];
    require(item.group >= 0 && item.group < s.plan.group_count, "group", i);
    require(item.stage_count >= 0, "stage_count", i);
    require(i == 0 || s.items[i - 1].stage_count >= item.stage_count, "items by falling length", i);
    by_group[item.group].push_back(item);
  }
  require(static_cast<std::int32_t>(by_group.size()) == s.plan.group_count, "every group has an item", by_group.size());

  std::vector<int> seen(p.col.size());
  std::int32_t total = 0, block = 0, slots = 0, splits = 0, last_end = 0;
  std::map<std::int32_t, std::int32_t> lengths;
  for (auto& [group, items] : by_group) {
    std::sort(items.begin(), items.end(),
              [](const WorkItem& a, const WorkItem& b) { return a.stage_begin < b.stage_begin; });
    std::int32_t stage = items[0].stage_begin;
    require(stage >= last_end, "groups' stages do not overlap", group);
    std::int32_t shortest = items[0].stage_count, longest = shortest;
    for (std::size_t k = 0; k < items.size(); k++) {
      require(items[k].stage_begin == stage, "a group's items follow each other", group);
      require(items.size() == 1 ? items[k].split_slot == -1 : items[k].split_slot == slots, "split_slot", group, k);
      slots += items.size() > 1;
      shortest = std::min(shortest, items[k].stage_count);
      longest = std::max(longest, items[k].stage_count);
      for (std::int32_t i = 0; i < items[k].stage_count; i++, stage++) {
        require(s.stages[stage].first_block == block, "first_block", stage);
        check_stage(s, p, group, stage, seen);
        block += s.stages[stage].block_count;
      }
    }
    for (std::int32_t i = items[0].stage_begin; i + 1 < stage; i++) check_cut(s, i);
    require(longest - shortest <= 1, "pieces are near-equal", group);
    require(items.size() == 1 || shortest > 0, "no piece is empty", group);
    if (items.size() > 1) {
      require(splits < s.split_count && s.splits[splits].group == group, "a split group is listed", group);
      require(s.splits[splits].slot_begin == slots - static_cast<std::int32_t>(items.size()) &&
                  s.splits[splits].slot_count == static_cast<std::int32_t>(items.size()),
              "the list has its slots", group);
      splits++;
    }
    lengths[group] = stage - items[0].stage_begin;
    total += lengths[group];
    last_end = stage;
  }
  require(splits == s.split_count, "every listed group is split", splits, s.split_count);
  require(slots <= s.split_slots, "slots in use", slots, s.split_slots);
  require(last_end <= s.plan.stage_capacity, "stages within the capacity", last_end);
  require(block == static_cast<std::int32_t>(p.col.size()), "blocks are counted through", block);
  for (std::size_t i = 0; i < seen.size(); i++) require(seen[i] == 1, "every block exactly once", i, seen[i]);

  // Who is split: groups longer than the limit, and nobody else (unless the slots ran out).
  if (s.split_slots == 0 || s.split_slots < s.plan.split_slot_capacity) return;
  const std::int64_t limit = split_limit(total, s.plan.group_count, s.plan.multiprocessors);
  for (const auto& [group, items] : by_group) {
    require((lengths[group] > limit) == (items.size() > 1), "long groups are split", group, lengths[group]);
    for (const WorkItem& item : items) require(item.stage_count <= limit, "no item passes the limit", group);
  }
}

}  // namespace

std::string check_schedule(const ScheduleInMemory& s, const PatternCase& p) {
  try {
    const int rows = s.plan.spec.rows_per_group;
    require(s.plan.group_count == (p.block_rows + rows - 1) / rows, "group_count", s.plan.group_count);
    check_items(s, p);
    for (int i = 0; i < kStagePadding; i++) {
      const auto* bytes = reinterpret_cast<const unsigned char*>(s.stages + s.plan.stage_capacity + i);
      require(std::all_of(bytes, bytes + sizeof(StageRecord), [](unsigned char b) { return b == 0; }), "stage padding",
              i);
    }
    for (int i = 0; i < kBlockOrderPadding; i++)
      require(s.block_order[p.col.size() + i] == 0, "block_order padding", i);
  } catch (const Broken& broken) {
    return broken.what;
  }
  return "";
}

ScheduleSpec random_spec(unsigned seed) {
  std::mt19937 random(seed ^ 0x5bd1e995u);
  const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  ScheduleSpec spec;
  spec.parts = pick(1, kMaxParts);
  spec.rows_per_group = spec.parts * pick(1, kMaxRowsPerGroup / spec.parts);
  spec.column_run = 1 << pick(0, 2);
  spec.columns_per_stage = spec.column_run * pick(1, kMaxColumnsPerStage / spec.column_run);
  const int least = spec.rows_per_group * spec.column_run;
  spec.blocks_per_stage = pick(0, 1) ? pick(least, 3 * least > 255 ? 255 : 3 * least) : pick(least, 255);
  return spec;
}

}  // namespace triage::test
