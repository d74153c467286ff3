// The verdict's jobs for attention: the correctness grid of one kernel, and one problem timed.
#pragma once

#include "verdict/job.h"
#include "verdict/job_context.h"

namespace triage::verdict {

/// Runs the edge cases and random cases of the job's kernel over its dtypes (with `quick` an even choice of them). Each
/// is judged by the oracle, with canaries around every tensor, and every fourth runs twice more, for equal bits. What
/// the kernel refuses is counted apart.
ReceiptGrid run_attention_grid(const Job& job, JobContext& context);

/// Runs the job's kernel on the job's problem: poisons the output, runs, judges a random choice of rows; times; looks
/// at the output again. @throws whatever the library throws
ReceiptCase time_attention(const Job& job, JobContext& context);

}  // namespace triage::verdict
