// `triage verdict --sanitize`: compute-sanitizer's tools over a few problems of a kernel's correctness grid.
#pragma once

#include <string>
#include <vector>

#include "verdict/external_tool.h"
#include "verdict/receipt.h"

namespace triage::verdict {

/// memcheck, initcheck, synccheck.
const std::vector<std::string>& sanitizer_tools();

/// What compute-sanitizer's log says.
struct SanitizerLog {
  bool complete = false;  ///< it ends with the summary of errors
  int errors = 0;
  std::string first_finding;  ///< on one line; empty if there is none
  std::string warning;        ///< why the result cannot be trusted; empty if nothing is said
};
SanitizerLog read_sanitizer_log(const std::string& log);

/// Runs one tool over the job's kernel, in a process of its own. Safe to call from several threads at once.
/// @param job of JobKind::sanitize
ReceiptSanitizer sanitize(const ExternalTool& sanitizer, const std::string& tool, const Job& job,
                          const Environment& environment, double timeout_seconds);

}  // namespace triage::verdict
