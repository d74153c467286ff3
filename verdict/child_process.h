// A child process that answers lines with lines, under a time limit, and that never outlives this process.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace triage::verdict {

using Environment = std::vector<std::pair<std::string, std::string>>;

/// From now on SIGINT, SIGTERM and SIGHUP kill the running child and its descendants, remove an unfinished output file
/// and end this process with 128 + the signal's number.
void install_interrupt_handlers();

/// What these handlers call besides, before the process ends; async-signal-safe. One at a time; nullptr: nothing.
void on_interrupt(void (*cleanup)() noexcept);

class ChildProcess {
 public:
  enum class Read { line, closed, timeout };

  /// Starts `arguments[0]` (a path), in a process group of its own. What it writes to standard error is kept, not
  /// shown. `environment` is added to this process's.
  /// @throws std::runtime_error if the system refuses.
  ChildProcess(const std::vector<std::string>& arguments, const Environment& environment);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// False if the child no longer reads.
  bool write_line(const std::string& line);

  /// The next line from the child's standard output. `tick` is called about ten times a second while it waits.
  Read read_line(std::string& line, double seconds, const std::function<void()>& tick);

  /// Kills the child and its descendants and waits for it. Says how the child ended, e.g. "it was killed by signal 11
  /// (Segmentation fault)"; if it had ended by itself, that.
  std::string finish();

  /// The end of what the child wrote to standard error, on one line.
  std::string last_words() const;

 private:
  void keep_errors();

  pid_t pid_ = -1;
  int input_ = -1, output_ = -1, errors_ = -1;
  std::string pending_;      // read from output_, not yet a whole line
  std::string error_text_;
};

}  // namespace triage::verdict
