// Runs a compiler as a child: own process group, time limit, bounded output, stoppable.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace triage::static_triage {

enum class ProcessOutcome { exited, signalled, timed_out, interrupted, not_started };

struct ProcessResult {
  ProcessOutcome outcome = ProcessOutcome::not_started;
  int exit_code = -1;   ///< if `exited`
  int signal = 0;       ///< if `signalled`
  std::string output;   ///< standard output and standard error in the order of arrival
  bool truncated = false;  ///< the child wrote more than was kept
  double seconds = 0.0;

  bool succeeded() const { return outcome == ProcessOutcome::exited && exit_code == 0; }
};

struct ProcessOptions {
  double timeout_seconds = 120.0;
  std::size_t max_output = std::size_t{4} << 20;
  /// Added to, or (with an empty value) taken out of, the environment: "NAME=value".
  std::vector<std::string> environment;
  /// Called with the child's process group once it runs, and with 0 when it is gone.
  std::function<void(int)> group_changed;
};

/// Runs `arguments[0]` (a path) without a shell, so that blanks and quotes in arguments mean nothing. Standard input
/// is empty. When time is up, or after `request_stop`, the child's whole process group is killed.
ProcessResult run_process(const std::vector<std::string>& arguments, const ProcessOptions& options);

/// Makes running and later `run_process` calls return `interrupted`; safe inside a signal handler.
void request_stop() noexcept;
bool stop_requested() noexcept;
void clear_stop() noexcept;

}  // namespace triage::static_triage
