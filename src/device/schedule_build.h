// Building tile schedules (schedule.h), on the CPU here and on the GPU in pattern_build.cu. Both fill the same arrays
// with the same bits; sizes are computed on the host from shapes alone, so that a rebuild allocates nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "device/schedule.h"

namespace triage {

inline constexpr int kStagePadding = 16;        ///< zero records behind the last stage that producers may prefetch
inline constexpr int kBlockOrderPadding = 256;  ///< zero entries behind block_order
inline constexpr int kMinSplitStages = 16;  ///< a group shorter than this is never split: its fix-up would cost more

/// Where a group's stages lie and how much room a schedule needs.
///
/// Group g begins at stage g + floor(crow[g * rows_per_group] * slots_num / slots_den). That leaves each group the most
/// stages that its blocks can need without knowing the other groups' counts, so one pass builds all groups at once.
/// With n blocks, S = blocks_per_stage and runs of r = column_run columns, of which a stage holds C = columns_per_stage
/// / r and each has at least one block and at most R = rows_per_group * r, a group has at most
///   1 + n / min(C, S - R + 1)   stages: a stage is cut with C runs in it, or because the next run would exceed S;
///   1 + n / C + 2 * n / S       stages: of two neighbours cut for the second reason, the blocks together exceed S.
/// The smaller ratio is taken. The greedy cut never makes more.
struct SchedulePlan {
  ScheduleSpec spec;
  std::int32_t block_rows = 0, block_cols = 0, nnz = 0;
  std::int32_t multiprocessors = 1;  ///< of the device that will run the items
  std::int32_t group_count = 0;
  std::int64_t slots_num = 0, slots_den = 1;
  std::int64_t stage_capacity = 0;       ///< without the padding
  std::int32_t split_slot_capacity = 0;  ///< no pattern of this shape needs more, see split_limit()

#ifdef __CUDACC__
  __host__ __device__
#endif
      std::int64_t
      first_stage(std::int32_t group, std::int32_t first_block) const {
    return group + first_block * slots_num / slots_den;
  }
};

/// @throws Error(invalid_argument) if the spec breaks a limit of schedule.h, Error(unsupported) if the schedule's
/// indices
///   would not fit 32 bits.
SchedulePlan plan_schedule(const ScheduleSpec& spec, std::int32_t block_rows, std::int32_t block_cols, std::int64_t nnz,
                           std::int32_t multiprocessors);

/// A group with more stages than this is split into ceil(stages / limit) items. It is the largest of
///   kMinSplitStages;
///   twice the mean of all groups: an ordinary spread is balanced by taking the longest items first;
///   half of what one multiprocessor does if the work is spread evenly: below that, no item can be the one all wait
///   for.
/// So split groups have at most 2 * total / limit <= min(total / 8, group_count, 4 * multiprocessors) items.
#ifdef __CUDACC__
__host__ __device__
#endif
    inline std::int64_t
    split_limit(std::int64_t total_stages, std::int32_t group_count, std::int32_t multiprocessors) {
  const std::int64_t mean = (total_stages + group_count - 1) / group_count;
  const std::int64_t share = (total_stages + 2 * multiprocessors - 1) / (2 * multiprocessors);
  std::int64_t limit = kMinSplitStages;
  if (limit < 2 * mean) limit = 2 * mean;
  if (limit < share) limit = share;
  return limit;
}

/// What a builder reports besides the schedule; lies next to the arrays, on the pattern's device.
struct ScheduleCounts {
  std::int32_t item_count;        ///< of `items`: always group_count
  std::int32_t split_item_count;  ///< of `split_items`
  std::int32_t split_count;
  std::int32_t split_slots;
  std::int32_t longest;       ///< most stages of a group
  std::int32_t total_stages;  ///< of all groups
};

/// A schedule's arrays, writable. There are two lists of items: every group whole, and long groups split.
struct ScheduleArrays {
  StageRecord* stages = nullptr;        ///< [stage_capacity + kStagePadding], zero before the first build
  std::int32_t* block_order = nullptr;  ///< [nnz + kBlockOrderPadding], zero before the first build
  WorkItem* items = nullptr;            ///< [group_count]
  WorkItem* split_items = nullptr;      ///< [group_count + split_slot_capacity]
  SplitGroup* splits = nullptr;         ///< [split_slot_capacity / 2]
  ScheduleCounts* counts = nullptr;     ///< [1]
};

/// The view that a kernel gets. @param split_slots 0 for whole groups, else the slots that the caller's workspace
/// holds.
ScheduleView view_schedule(const SchedulePlan& plan, const ScheduleArrays& arrays, std::int32_t split_slots);

/// Builds in host memory. Long groups are split in order for as long as `max_split_slots` suffice; the rest stay whole.
void build_schedule(const SchedulePlan& plan, const std::int32_t* crow, const std::int32_t* col,
                    std::int32_t max_split_slots, const ScheduleArrays& arrays);

/// A schedule with its memory, on the host: for tests, and for whoever wants one without a BlockPattern.
struct HostSchedule {
  SchedulePlan plan;
  std::vector<StageRecord> stages;
  std::vector<std::int32_t> block_order;
  std::vector<WorkItem> items, split_items;
  std::vector<SplitGroup> splits;
  ScheduleCounts counts{};

  HostSchedule(const ScheduleSpec& spec, std::int32_t block_rows, std::int32_t block_cols, const std::int32_t* crow,
               const std::int32_t* col, std::int32_t multiprocessors);
  ScheduleArrays arrays();
  ScheduleView view(bool split = false);
};

}  // namespace triage
