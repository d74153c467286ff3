#include "api/pattern_data.h"

#include "triage/error.h"

namespace triage::detail {

ScheduleView find_schedule(const PatternData& pattern, const ScheduleSpec& spec, std::int64_t dense) {
  // Splitting pays where one group would keep a multiprocessor busy for longer than the rest need for their share. Every
  // tile of the dense dimension is an item of its own, so many tiles balance without it.
  constexpr std::int64_t kTile = 256;
  const std::int64_t tiles = (dense + kTile - 1) / kTile;
  for (const Schedule& schedule : pattern.schedules) {
    if (!(schedule.plan.spec == spec)) continue;
    const std::int64_t share = schedule.counts.total_stages * tiles / schedule.plan.multiprocessors;
    const bool split = schedule.split_slots > 0 && 2 * std::int64_t{schedule.counts.longest} > share;
    return view_schedule(schedule.plan, schedule.arrays, split ? schedule.split_slots : 0);
  }
  throw Error(ErrorCode::unsupported, "the pattern holds no tile schedule for the selected kernel; it was made before "
                                      "the environment changed what the device may run");
}

}  // namespace triage::detail
