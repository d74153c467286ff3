// The worker's part of `triage verdict --profile`: one call of a kernel between the marks that Nsight Compute looks
// for.
#pragma once

#include "verdict/job.h"
#include "verdict/job_context.h"

namespace triage::verdict {

/// Makes the job's problem, calls the kernel once to load its code, and once more between cudaProfilerStart and
/// cudaProfilerStop. Says which kernel ran on which shape; the launches come from the profiler's own output.
/// @throws whatever the library throws, and std::runtime_error if another kernel ran
ReceiptProfile run_for_profiler(const Job& job, JobContext& context);

}  // namespace triage::verdict
