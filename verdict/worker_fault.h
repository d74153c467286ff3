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

/// TRIAGE_TEST_FAULT is "<hang|crash|wrong|throw|sticky>:<kernel>:<block>"; does that for jobs on this kernel and block.
/// "wrong" writes into the first bytes of `output` (may be nullptr).
void inject_fault(const Job& job, void* output, DLDevice device);

}  // namespace triage::verdict
