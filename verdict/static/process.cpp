#include "verdict/static/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>

extern char** environ;

namespace triage::static_triage {
namespace {

std::atomic<bool> stop{false};

// The parent's environment with the changes asked for.
std::vector<std::string> child_environment(const std::vector<std::string>& changes) {
  std::vector<std::string> result;
  const auto name_of = [](const std::string& entry) { return entry.substr(0, entry.find('=')); };
  for (char** entry = environ; *entry != nullptr; ++entry) {
    bool changed = false;
    for (const std::string& change : changes) changed = changed || name_of(change) == name_of(*entry);
    if (!changed) result.emplace_back(*entry);
  }
  for (const std::string& change : changes) {
    if (change.find('=') + 1 < change.size()) result.push_back(change);
  }
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& s : strings) result.push_back(s.data());
  result.push_back(nullptr);
  return result;
}

// Only async-signal-safe calls: other threads may hold locks while this one forks.
[[noreturn]] void become_child(int output, char* const* arguments, char* const* environment) {
  setpgid(0, 0);
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  const int null = open("/dev/null", O_RDONLY);
  if (null >= 0) dup2(null, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  execve(arguments[0], arguments, environment);
  const char* message = std::strerror(errno);
  [[maybe_unused]] ssize_t ignored = write(STDERR_FILENO, message, std::strlen(message));
  _exit(127);
}

}  // namespace

void request_stop() noexcept { stop.store(true, std::memory_order_relaxed); }
bool stop_requested() noexcept { return stop.load(std::memory_order_relaxed); }
void clear_stop() noexcept { stop.store(false, std::memory_order_relaxed); }

ProcessResult run_process(const std::vector<std::string>& arguments, const ProcessOptions& options) {
  using Clock = std::chrono::steady_clock;
  ProcessResult result;
  if (arguments.empty()) return result;
  if (stop_requested()) {
    result.outcome = ProcessOutcome::interrupted;
    return result;
  }

  std::vector<std::string> argument_strings = arguments;
  std::vector<std::string> environment_strings = child_environment(options.environment);
  std::vector<char*> argument_pointers = pointers(argument_strings);
  std::vector<char*> environment_pointers = pointers(environment_strings);

  int pipe_ends[2];
  if (pipe2(pipe_ends, O_CLOEXEC) != 0) {
    result.output = std::string("no pipe: ") + std::strerror(errno);
    return result;
  }
  const auto begin = Clock::now();
  const pid_t child = fork();
  if (child == 0) become_child(pipe_ends[1], argument_pointers.data(), environment_pointers.data());
  close(pipe_ends[1]);
  if (child < 0) {
    result.output = std::string("no new process: ") + std::strerror(errno);
    close(pipe_ends[0]);
    return result;
  }
  setpgid(child, child);  // also here, so that a kill right away finds the group
  if (options.group_changed) options.group_changed(child);

  const auto deadline = begin + std::chrono::duration_cast<Clock::duration>(
                                    std::chrono::duration<double>(options.timeout_seconds));
  bool killed = false, open_pipe = true, running = true;
  int status = 0;
  Clock::time_point drain_until{};
  while (open_pipe || running) {
    const auto now = Clock::now();
    if (!killed && running && (stop_requested() || now >= deadline)) {
      result.outcome = stop_requested() ? ProcessOutcome::interrupted : ProcessOutcome::timed_out;
      killpg(child, SIGKILL);
      killed = true;
    }
    if (running && waitpid(child, &status, WNOHANG) == child) {
      running = false;
      drain_until = now + std::chrono::seconds(1);
    }
    // Something that the child left behind may hold the pipe open: do not wait for it.
    if (!running && now >= drain_until) break;
    pollfd waiter{pipe_ends[0], POLLIN, 0};
    if (!open_pipe) {
      poll(nullptr, 0, 5);
      continue;
    }
    if (poll(&waiter, 1, running ? 50 : 10) <= 0) continue;
    char buffer[16384];
    const ssize_t got = read(pipe_ends[0], buffer, sizeof buffer);
    if (got == 0) open_pipe = false;
    if (got <= 0) continue;
    const std::size_t room = options.max_output - std::min(options.max_output, result.output.size());
    result.output.append(buffer, std::min(room, static_cast<std::size_t>(got)));
    result.truncated = result.truncated || static_cast<std::size_t>(got) > room;
  }
  close(pipe_ends[0]);
  if (options.group_changed) options.group_changed(0);
  if (open_pipe) killpg(child, SIGKILL);  // what it left behind still holds the pipe
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  if (killed) return result;
  if (WIFEXITED(status)) {
    result.outcome = ProcessOutcome::exited;
    result.exit_code = WEXITSTATUS(status);
  } else {
    result.outcome = ProcessOutcome::signalled;
    result.signal = WTERMSIG(status);
  }
  return result;
}

}  // namespace triage::static_triage
