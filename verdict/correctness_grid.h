// The correctness grid of one kernel as a job of the verdict; the problems are those of correctness_cases.h.
#pragma once

#include "verdict/job.h"
#include "verdict/job_context.h"

namespace triage::verdict {

/// Runs the edge cases of the job's kernel over its blocks and dtypes (with `quick` an even choice of them), some of them
/// in packed layout where the kernel has one. Each is judged by the oracle, with canaries around every tensor, and every
/// fourth runs twice more, for equal bits. What the kernel refuses is counted apart.
ReceiptGrid run_grid(const Job& job, JobContext& context);

}  // namespace triage::verdict
