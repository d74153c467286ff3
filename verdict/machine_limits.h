// What this machine can do at most: measured by its own small programs and by its dense libraries.
#pragma once

#include "verdict/job_context.h"
#include "verdict/receipt.h"

namespace triage::verdict {

/// Name, versions and measured limits of the job's device; about a second.
ReceiptDevice measure_machine(const Job& job, JobContext& context);

/// TFLOP/s of fp32 multiply-adds in registers on `threads` threads.
double cpu_peak_fp32_tflops(int threads);

}  // namespace triage::verdict
