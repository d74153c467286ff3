// What a run of the verdict will do: the jobs for each machine, from the registry, the table of shapes and the filters.
#pragma once

#include <dlpack/dlpack.h>

#include <string>
#include <vector>

#include "triage/kernels.h"
#include "verdict/commands.h"
#include "verdict/job.h"

namespace triage::verdict {

struct MachinePlan {
  DLDevice device{kDLCPU, 0};
  std::vector<Job> jobs;  ///< in the order in which they run
};

struct VerdictPlan {
  std::vector<MachinePlan> machines;
  std::string problem;  ///< a sentence if there is nothing to do, or a filter names what does not exist
  int exit_code = 0;    ///< to end with then
};

/// --only evidence: nothing is checked or timed besides.
bool evidence_only(const VerdictOptions& options);

VerdictPlan plan_verdict(const VerdictOptions& options);

}  // namespace triage::verdict
