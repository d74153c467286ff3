// Which of Nsight Compute's metrics a profile holds, under which names, and what they say about a kernel's limit.
#pragma once

#include <string>
#include <vector>

#include "verdict/receipt.h"

namespace triage::verdict {

struct ProfileMetric {
  const char* name;     ///< in receipts
  const char* counter;  ///< Nsight Compute's
};

/// All but the reasons of stalls.
const std::vector<ProfileMetric>& profile_metrics();

/// Reasons for which a warp does not issue, and what each means in plain words.
struct StallReason {
  const char* name;
  const char* meaning;
};
const std::vector<StallReason>& stall_reasons();
/// Nsight Compute's counter of a reason: cycles that a warp waits for it for each instruction issued.
std::string stall_counter(const std::string& reason);

/// The launch that took longest; nullptr if there is none.
const ProfiledLaunch* longest_launch(const ReceiptProfile& profile);

/// One sentence: which unit is saturated or, if none is, what warps wait for; spills and bank conflicts where they
/// count.
std::string limiting_sentence(const ProfiledLaunch& launch);

/// Share of the accesses to shared memory that were repeated for conflicts of banks.
double bank_conflict_share(const ProfiledLaunch& launch);
/// Instructions that loaded or stored spilled registers (or other local memory).
double spill_instructions(const ProfiledLaunch& launch);

}  // namespace triage::verdict
