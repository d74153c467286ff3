// What a BlockPattern owns.
#pragma once

#include <memory>
#include <vector>

#include "device/memory.h"
#include "device/pattern_build.h"
#include "device/schedule_build.h"
#include "registry/device.h"
#include "triage/block_pattern.h"

namespace triage::detail {

/// One schedule of one direction. `split_slots` is the room for split groups that the pattern had use for when it was
/// created; updates keep within it, so that workspaces and captured graphs stay valid.
struct Schedule {
  SchedulePlan plan;
  ScheduleArrays arrays;
  ScheduleCounts counts{};  ///< as read back at creation
  std::int32_t split_slots = 0;
};

/// One direction of a pattern.
struct PatternData {
  const Device* device = nullptr;
  PatternView view;
  PatternArrays arrays;
  std::vector<Schedule> schedules;
  PatternData* twin = nullptr;            ///< the other direction, in the same PatternPair
  std::int64_t crow_length = 1, nnz = 0;  ///< what the shape pointers of the views point at
  void* scratch = nullptr;                ///< of the GPU builders, shared by both directions
};

/// A pattern and its transposed twin, with all their memory. A BlockPattern holds a pointer to one of the two that owns
/// the pair.
struct PatternPair {
  PatternData pattern, twin;
  Buffer memory, scratch;
};

/// The schedule that a kernel reads. `dense_tiles` estimates how many tiles of the dense dimension each item stands
/// for.
/// @throws Error(unsupported) if the pattern has none for `spec`.
ScheduleView find_schedule(const PatternData& pattern, const ScheduleSpec& spec, std::int64_t dense_tiles);

}  // namespace triage::detail

namespace triage {

/// The device that the argument `name` lives on or names. @throws Error if nothing of this build runs there.
const Device& check_usable(const char* name, DLDevice dl);

}  // namespace triage
