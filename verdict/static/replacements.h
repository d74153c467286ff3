// What to write instead of an instruction that an architecture lacks, and how to keep it where it exists.
#pragma once

#include <string>

#include "verdict/static/instruction_facts.h"

namespace triage::static_triage {

/// "cp.async into the same stages ..." for a target that lacks `fact`; what a target with a suffix would need is
/// "-gencode arch=compute_90a,code=sm_90a". Never empty.
std::string replacement(const InstructionFact& fact, const Target& target);

/// The condition that lets in exactly the targets which have it: "defined(__CUDA_ARCH_FEAT_SM90_ALL)",
/// "__CUDA_ARCH__ >= 900".
std::string exact_guard(const InstructionFact& fact);

}  // namespace triage::static_triage
