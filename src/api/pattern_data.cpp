#include "api/pattern_data.h"

#include "triage/error.h"

namespace triage::detail {

ScheduleView find_schedule(const PatternData& pattern, const ScheduleSpec& spec, std::int64_t dense_tiles) {
  for (const Schedule& schedule : pattern.schedules) {
    if (!(schedule.plan.spec == spec)) continue;
    // Splitting pays where one group would keep a multiprocessor busy for longer than half of what the rest need for
    // their share; many tiles balance without it.
    const std::int64_t share = schedule.counts.total_stages * dense_tiles / schedule.plan.multiprocessors;
    const bool split = schedule.split_slots > 0 && 2 * std::int64_t{schedule.counts.longest} > share;
    return view_schedule(schedule.plan, schedule.arrays, split ? schedule.split_slots : 0);
  }
  throw Error(ErrorCode::unsupported,
              "the pattern holds no tile schedule for the selected kernel; it was made before "
              "the environment changed what the device may run");
}

}  // namespace triage::detail

namespace triage {

const Device& check_usable(const char* name, DLDevice dl) {
  try {
    const Device& device = probe_device(dl);
    if (device.has_code) return device;
    throw Error(ErrorCode::unsupported, "this build holds no code for " + device.name +
                                            "; build with its architecture in "
                                            "TRIAGE_CUDA_ARCHITECTURES");
  } catch (const Error& error) {
    throw Error(error.code(), std::string(name) + " is on a device that cannot be used: " + error.what());
  }
}

}  // namespace triage
