// What a tile schedule promises (src/device/schedule.h), checked from first principles.
#pragma once

#include <string>

#include "device/schedule_build.h"
#include "unit/pattern_cases.h"

namespace triage::test {

/// A schedule's arrays in host memory.
struct ScheduleInMemory {
  SchedulePlan plan;
  const StageRecord* stages;
  const std::int32_t* block_order;
  const WorkItem* items;
  std::int32_t item_count;
  const SplitGroup* splits;
  std::int32_t split_count;
  std::int32_t split_slots;
};

/// The first broken promise, or an empty string.
std::string check_schedule(const ScheduleInMemory& schedule, const PatternCase& pattern);

/// A spec that keeps the limits, by seed.
ScheduleSpec random_spec(unsigned seed);

}  // namespace triage::test
