// What is said about a run's evidence (compute-sanitizer, Nsight Compute), as cells and sentences for every report.
#pragma once

#include <string>
#include <vector>

#include "verdict/receipt.h"

namespace triage::verdict {

struct Run;

using Rows = std::vector<std::vector<std::string>>;

/// "ok", "ERRORS" (the tool's), "WRONG" (a result), "NO ANSWER" (the tool or the kernel died), "HUNG".
std::string outcome_word(const ReceiptSanitizer& entry);

const std::vector<std::string>& sanitizer_header();
/// One row a kernel and tool.
Rows sanitizer_rows(const Run& run);
/// One sentence for each entry that is not clean.
std::vector<std::string> sanitizer_findings(const Run& run);

const std::vector<std::string>& profile_header();
/// One row a profiled kernel: its longest launch.
Rows profile_rows(const Run& run);
/// One sentence a profiled kernel: what limits it, or why there is no profile.
std::vector<std::string> profile_sentences(const Run& run);
std::string profile_sentence(const ReceiptProfile& profile);

}  // namespace triage::verdict
