#include "verdict/sanitizer.h"
#include "verdict/job_identity.h"

#include <fmt/format.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

namespace triage::verdict {
namespace {

/// synccheck keeps a table of the barriers that it sees. What the compiler tells it is too small for kernels with
/// mbarriers in shared memory (the table overflows, and the launch fails for no fault of the kernel's); 16384 in ten
/// processes at once were too much for an H100's memory. Between 64 and 16384 it found the same there.
constexpr const char* kTrackedBarriers = "1024";
constexpr const char* kPrefix = "=========";

/// A line of the log without its mark; empty if it is not the tool's.
std::string content(const std::string& line) {
  if (line.rfind(kPrefix, 0) != 0) return "";
  const std::size_t begin = line.find_first_not_of(" \t", std::string(kPrefix).size());
  return begin == std::string::npos ? "" : line.substr(begin);
}

bool starts_with(const std::string& text, const char* start) { return text.rfind(start, 0) == 0; }

}  // namespace

const std::vector<std::string>& sanitizer_tools() {
  static const std::vector<std::string> tools{"memcheck", "initcheck", "synccheck"};
  return tools;
}

SanitizerLog read_sanitizer_log(const std::string& log) {
  constexpr const char* kSummary = "ERROR SUMMARY: ";
  SanitizerLog result;
  std::istringstream lines(log);
  int lines_of_finding = 0;  // the finding, where, and by which thread
  for (std::string line; std::getline(lines, line);) {
    const std::string text = content(line);
    if (starts_with(text, kSummary)) {
      result.complete = true;
      result.errors += std::atoi(text.c_str() + std::string(kSummary).size());
    } else if (starts_with(text, "Warning:") || text.find("Internal Sanitizer Error") != std::string::npos ||
               text.find("didn't track the launch") != std::string::npos ||
               starts_with(text, "Error: Device not supported") ||
               starts_with(text, "Error: Target application terminated before")) {
      if (result.warning.empty()) result.warning = text;
    } else if (text.empty() || text == "COMPUTE-SANITIZER") {
      if (lines_of_finding > 0) lines_of_finding = 3;
    } else if (lines_of_finding < 3 && !starts_with(text, "Saved host backtrace") && !starts_with(text, "Host Frame")) {
      result.first_finding += (lines_of_finding++ > 0 ? " " : "") + text;
    }
  }
  if (result.errors == 0) result.first_finding.clear();
  return result;
}

ReceiptSanitizer sanitize(const ExternalTool& sanitizer, const std::string& tool, const Job& job,
                          const Environment& environment, double timeout_seconds) {
  ReceiptSanitizer entry;
  take_identity(entry, job);
  entry.tool = tool;
  entry.version = sanitizer.version;
  entry.date = today();
  const auto command = [&](const std::string& log) {
    std::vector<std::string> words{sanitizer.path, "--tool",        tool, "--target-processes",
                                   "all",          "--log-file",    log,  "--error-exitcode",
                                   "86",           "--print-limit", "20"};
    if (tool == "synccheck") words.insert(words.end(), {"--num-cuda-barriers", kTrackedBarriers});
    return words;
  };
  const ToolRun run = run_under_tool(command, job, environment, timeout_seconds);
  entry.seconds = run.seconds;
  const SanitizerLog log = read_sanitizer_log(run.log);
  entry.errors = log.errors;
  const auto end = [&](Outcome outcome, const std::string& failure) {
    entry.outcome = outcome;
    entry.failure = failure;
    return entry;
  };
  ReceiptGrid grid;
  if (run.result.is_object()) grid = grid_from_json(run.result);
  entry.problems = grid.cases;
  if (!log.first_finding.empty()) return end(Outcome::wrong, log.first_finding);
  if (run.timed_out) {
    return end(Outcome::hung, fmt::format("no answer within {:g} s (--timeout); it was stopped", timeout_seconds));
  }
  if (!log.warning.empty()) return end(Outcome::crashed, log.warning);
  if (!run.error.empty()) return end(Outcome::crashed, run.error);
  if (!log.complete || run.result.is_null()) {
    const std::string said = last_words_of(run.log.empty() ? run.output : run.log);
    return end(Outcome::crashed,
               fmt::format("{} without a summary{}{}", run.ended, said.empty() ? "" : "; it had said: ", said));
  }
  if (log.errors > 0) return end(Outcome::crashed, "errors without a finding: " + last_words_of(run.log));
  if (grid.failed > 0) return end(Outcome::wrong, "a wrong result while it watched: " + grid.failure);
  if (grid.cases == 0) return end(Outcome::crashed, "the kernel took none of the problems: nothing was checked");
  return entry;
}

}  // namespace triage::verdict
