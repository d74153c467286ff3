// Gathers a run's evidence: compute-sanitizer's tools side by side, then the profiler, one kernel after another.
#pragma once

#include <string>
#include <vector>

#include "verdict/child_process.h"
#include "verdict/job.h"
#include "verdict/terminal.h"

namespace triage::verdict {

/// How many jobs of `jobs` gather_evidence will report as steps to `progress`.
int evidence_steps(const std::vector<Job>& jobs);

/// Runs the jobs of JobKind::sanitize and JobKind::profile and puts what they gave into `receipt`. What a missing tool,
/// a missing permission or a refusal left undone becomes a remark.
void gather_evidence(const std::vector<Job>& jobs, const Environment& environment, double timeout_seconds,
                     Progress& progress, Receipt& receipt, std::vector<std::string>& remarks);

}  // namespace triage::verdict
