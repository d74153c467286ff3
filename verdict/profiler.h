// `triage verdict --profile`: Nsight Compute over one call of a kernel.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "verdict/external_tool.h"
#include "verdict/receipt.h"

namespace triage::verdict {

/// The launches in what `ncu --csv --page raw --print-units base` printed, in the order in which they ran.
/// @throws std::runtime_error if it is no such table
std::vector<ProfiledLaunch> read_profiler_csv(const std::string& text);

struct ProfileAnswer {
  std::optional<ReceiptProfile> profile;
  std::string refusal;      ///< a sentence if the kernel does not take the problem
  std::string unavailable;  ///< a sentence if nothing can be profiled here (no permission to read counters)
};

/// Profiles the job's kernel on the job's problem, in a process of its own. One at a time.
/// @param job of JobKind::profile
ProfileAnswer profile(const ExternalTool& ncu, const Job& job, const Environment& environment, double timeout_seconds);

}  // namespace triage::verdict
