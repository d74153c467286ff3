// Faults that the tests plant in a worker process, to see that the verdict reports them. Nothing happens unless
// TRIAGE_TEST_FAULT is set, and a run under it says so and writes no receipt.
#pragma once

#include <dlpack/dlpack.h>

#include <string>

#include "verdict/job.h"

namespace triage::verdict {

inline constexpr const char* kFaultVariable = "TRIAGE_TEST_FAULT";

/// True if TRIAGE_TEST_FAULT is set.
bool faults_planted();

/// If set, compute-sanitizer and Nsight Compute (or whatever PATH has under these names) run over the CPU's rows too: for
/// tests where there is no GPU. A run under it says so.
inline constexpr const char* kEvidenceOnCpuVariable = "TRIAGE_TEST_EVIDENCE_ON_CPU";
bool evidence_on_cpu();

/// TRIAGE_TEST_FAULT is "<hang|crash|wrong|throw|sticky>:<kernel>:<block>"; does that for jobs on this kernel and block.
/// "wrong" writes into the first bytes of `output` (may be nullptr).
void inject_fault(const Job& job, void* output, DLDevice device);

}  // namespace triage::verdict
