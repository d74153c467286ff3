#include "verdict/profile_metrics.h"

#include <fmt/format.h>

#include <algorithm>

namespace triage::verdict {
namespace {

/// From here on a unit counts as saturated: what lies above it is start-up and tail.
constexpr double kSaturatedPercent = 75;
/// Less than this share of shared-memory accesses repeated is not worth a word.
constexpr double kConflictsWorthAWord = 0.1;

std::string meaning_of(const std::string& reason) {
  for (const StallReason& known : stall_reasons()) {
    if (reason == known.name) return known.meaning;
  }
  return reason;
}

}  // namespace

const std::vector<ProfileMetric>& profile_metrics() {
  static const std::vector<ProfileMetric> metrics{
      {"time_us", "gpu__time_duration.sum"},  // nanoseconds there
      {"tensor_percent", "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed"},
      {"issue_percent", "smsp__issue_active.avg.pct_of_peak_sustained_active"},
      {"dram_percent", "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed"},
      {"dram_read_bytes", "dram__bytes_read.sum"},
      {"dram_write_bytes", "dram__bytes_write.sum"},
      {"l2_percent", "lts__throughput.avg.pct_of_peak_sustained_elapsed"},
      {"l2_hit_percent", "lts__t_sector_hit_rate.pct"},
      {"shared_percent", "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum.pct_of_peak_sustained_elapsed"},
      {"shared_wavefronts", "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum"},
      {"bank_conflicts", "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum"},
      {"occupancy_percent", "sm__warps_active.avg.pct_of_peak_sustained_active"},
      {"registers", "launch__registers_per_thread"},
      {"static_shared_bytes", "launch__shared_mem_per_block_static"},
      {"dynamic_shared_bytes", "launch__shared_mem_per_block_dynamic"},
      {"waves", "launch__waves_per_multiprocessor"},
      {"local_loads", "smsp__sass_inst_executed_op_local_ld.sum"},
      {"local_stores", "smsp__sass_inst_executed_op_local_st.sum"},
  };
  return metrics;
}

const std::vector<StallReason>& stall_reasons() {
  static const std::vector<StallReason> reasons{
      {"barrier", "a barrier of the block"},
      {"branch_resolving", "a branch's target"},
      {"dispatch_stall", "the dispatch of an instruction"},
      {"drain", "its last stores"},
      {"gmma", "warpgroup products (wgmma)"},
      {"imc_miss", "constants that missed their cache"},
      {"lg_throttle", "room in the queue to global memory"},
      {"long_scoreboard", "data from L1, L2 or memory"},
      {"math_pipe_throttle", "a free arithmetic pipe"},
      {"membar", "a memory fence"},
      {"mio_throttle", "room in the queue to shared memory"},
      {"misc", "other reasons"},
      {"no_instruction", "instructions to be fetched"},
      {"short_scoreboard", "data from shared memory"},
      {"sleeping", "the end of a sleep"},
      {"tex_throttle", "room in the texture queue"},
      {"wait", "fixed latencies between its instructions"},
      {"not_selected", "other warps that issued instead"},
      {"selected", "nothing: it issued"},
  };
  return reasons;
}

std::string stall_counter(const std::string& reason) {
  return "smsp__average_warps_issue_stalled_" + reason + "_per_issue_active.ratio";
}

const ProfiledLaunch* longest_launch(const ReceiptProfile& profile) {
  const auto longest =
      std::max_element(profile.launches.begin(), profile.launches.end(),
                       [](const auto& a, const auto& b) { return a.metric("time_us") < b.metric("time_us"); });
  return longest == profile.launches.end() ? nullptr : &*longest;
}

double bank_conflict_share(const ProfiledLaunch& launch) {
  const double accesses = launch.metric("shared_wavefronts");
  return accesses > 0 ? launch.metric("bank_conflicts") / accesses : 0;
}

double spill_instructions(const ProfiledLaunch& launch) {
  return launch.metric("local_loads") + launch.metric("local_stores");
}

std::string limiting_sentence(const ProfiledLaunch& launch) {
  struct Unit {
    const char* metric;
    const char* name;
  };
  constexpr Unit kUnits[] = {{"tensor_percent", "the tensor cores"},
                             {"dram_percent", "memory bandwidth"},
                             {"l2_percent", "the L2's bandwidth"},
                             {"shared_percent", "the bandwidth of shared memory"},
                             {"issue_percent", "the rate at which instructions issue"}};
  const Unit* busiest = std::max_element(std::begin(kUnits), std::end(kUnits), [&](const Unit& a, const Unit& b) {
    return launch.metric(a.metric) < launch.metric(b.metric);
  });
  const double percent = launch.metric(busiest->metric);
  std::string text;
  if (percent >= kSaturatedPercent) {
    text = fmt::format("limited by {}: {:.0f}% of peak", busiest->name, percent);
  } else {
    text = fmt::format("no unit is saturated; the busiest is {} at {:.0f}% of peak", busiest->name, percent);
    // Warps that could have issued do not wait for anything.
    const auto waits = std::find_if(launch.stalls.begin(), launch.stalls.end(), [](const auto& stall) {
      return stall.first != "selected" && stall.first != "not_selected";
    });
    if (waits != launch.stalls.end()) {
      text += fmt::format(", and warps wait most for {} ({})", meaning_of(waits->first), waits->first);
    }
  }
  if (const double waves = launch.metric("waves"); waves > 0 && waves < 1) {
    text += fmt::format("; the grid fills {:.0f}% of the device once", 100 * waves);
  }
  if (spill_instructions(launch) > 0) {
    text +=
        fmt::format("; {:.4g} instructions move spilled registers or other local memory", spill_instructions(launch));
  }
  if (bank_conflict_share(launch) >= kConflictsWorthAWord) {
    text += fmt::format("; {:.0f}% of the accesses to shared memory repeat for bank conflicts",
                        100 * bank_conflict_share(launch));
  }
  return text;
}

}  // namespace triage::verdict
