// The jobs that measure: one problem beside its peers, and one kernel at rising density.
#pragma once

#include "verdict/job.h"
#include "verdict/job_context.h"

namespace triage::verdict {

/// Runs the job's kernel on the job's problem: poisons the output, runs, judges; sets up the peers; times all in turn;
/// judges the output again. @throws whatever the library throws
ReceiptCase time_case(const Job& job, JobContext& context);

/// Times the job's kernel at rising density until the dense product is faster, and interpolates where they meet.
ReceiptCrossover find_crossover(const Job& job, JobContext& context);

/// The density at which a curve of times crosses `dense_ms`; sets `density` and `relation`.
void place_crossover(ReceiptCrossover& crossover);

/// How many copies of its operands a timed problem takes turns on (`shape` with its nnz_blocks); see copies_for.
int timing_copies(const std::string& op, const std::string& dtype, const ReceiptShape& shape, const JobContext& context);

/// Selects the job's kernel for what this process calls from now on.
void force_kernel(const std::string& name);

}  // namespace triage::verdict
