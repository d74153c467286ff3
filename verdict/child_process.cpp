#include "verdict/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <stdexcept>

#include "verdict/receipt.h"

extern char** environ;

namespace triage::verdict {
namespace {

// The process group that a signal handler has to end; 0: none runs. One child runs at a time.
std::atomic<pid_t> running_group{0};
std::atomic<void (*)() noexcept> interrupt_cleanup{nullptr};
static_assert(std::atomic<pid_t>::is_always_lock_free, "a signal handler reads it");

void end_everything(int signal_number) {
  const pid_t group = running_group.load();
  if (group > 0) ::kill(-group, SIGKILL);
  if (void (*cleanup)() noexcept = interrupt_cleanup.load()) cleanup();
  remove_unfinished_file();
  ::_exit(128 + signal_number);
}

void make_pipe(int (&ends)[2]) {
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    throw std::runtime_error(fmt::format("no pipe to a child process: {}", std::strerror(errno)));
  }
}

void close_if_open(int& file) {
  if (file >= 0) ::close(file);
  file = -1;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& string : strings) result.push_back(string.data());
  result.push_back(nullptr);
  return result;
}

std::vector<std::string> merged_environment(const Environment& added) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    const auto replaces = [&](const auto& pair) { return text.rfind(pair.first + "=", 0) == 0; };
    if (std::none_of(added.begin(), added.end(), replaces)) result.push_back(text);
  }
  for (const auto& [name, value] : added) result.push_back(name + "=" + value);
  return result;
}

std::string describe_status(int status) {
  if (WIFSIGNALED(status)) {
    return fmt::format("it was killed by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
  }
  return fmt::format("it exited with code {}", WEXITSTATUS(status));
}

}  // namespace

void install_interrupt_handlers() {
  struct sigaction action {};
  action.sa_handler = end_everything;
  sigemptyset(&action.sa_mask);
  for (int signal_number : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal_number, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error code of write
}

void on_interrupt(void (*cleanup)() noexcept) { interrupt_cleanup = cleanup; }

ChildProcess::ChildProcess(const std::vector<std::string>& arguments, const Environment& environment) {
  int input[2], output[2], errors[2];
  make_pipe(input);
  make_pipe(output);
  make_pipe(errors);
  std::vector<std::string> argument_strings = arguments;
  std::vector<std::string> environment_strings = merged_environment(environment);
  const std::vector<char*> argv = pointers(argument_strings), envp = pointers(environment_strings);
  const pid_t parent = ::getpid();

  // Blocked across fork, so that no signal falls between the child's birth and its entry in running_group.
  sigset_t all, before;
  sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, &before);
  pid_ = ::fork();
  if (pid_ == 0) {
    // Only async-signal-safe calls from here to exec.
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);
    for (int signal_number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal_number, SIG_DFL);
    ::dup2(input[0], STDIN_FILENO);
    ::dup2(output[1], STDOUT_FILENO);
    ::dup2(errors[1], STDERR_FILENO);
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    ::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  const int fork_error = errno;
  if (pid_ > 0) {
    ::setpgid(pid_, pid_);  // here too: whichever of the two comes first
    running_group = pid_;
  }
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  ::close(input[0]);
  ::close(output[1]);
  ::close(errors[1]);
  input_ = input[1];
  output_ = output[0];
  errors_ = errors[0];
  if (pid_ < 0) {
    close_if_open(input_);
    close_if_open(output_);
    close_if_open(errors_);
    throw std::runtime_error(fmt::format("no child process: {}", std::strerror(fork_error)));
  }
  ::fcntl(errors_, F_SETFL, O_NONBLOCK);
}

ChildProcess::~ChildProcess() { finish(); }

bool ChildProcess::write_line(const std::string& line) {
  const std::string text = line + "\n";
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = ::write(input_, text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    done += static_cast<std::size_t>(count);
  }
  return true;
}

ChildProcess::Read ChildProcess::read_line(std::string& line, double seconds, const std::function<void()>& tick) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::duration<double>(seconds);
  while (true) {
    const std::size_t end = pending_.find('\n');
    if (end != std::string::npos) {
      line = pending_.substr(0, end);
      pending_.erase(0, end + 1);
      return Read::line;
    }
    if (Clock::now() >= deadline) return Read::timeout;
    // A closed error stream would make every poll return at once: leave it out by its negative number.
    pollfd files[2] = {{output_, POLLIN, 0}, {errors_, POLLIN, 0}};
    const int ready = ::poll(files, 2, 100);
    tick();
    if (ready < 0 && errno != EINTR) return Read::closed;
    if (ready <= 0) continue;
    if (files[1].revents != 0) keep_errors();
    if (files[0].revents == 0) continue;
    char chunk[65536];
    const ssize_t count = ::read(output_, chunk, sizeof chunk);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return Read::closed;
    pending_.append(chunk, static_cast<std::size_t>(count));
  }
}

void ChildProcess::keep_errors() {
  char chunk[4096];
  ssize_t count = 0;
  while ((count = ::read(errors_, chunk, sizeof chunk)) > 0) error_text_.append(chunk, static_cast<std::size_t>(count));
  if (count == 0) close_if_open(errors_);
  constexpr std::size_t kKept = 8192;
  if (error_text_.size() > kKept) error_text_.erase(0, error_text_.size() - kKept);
}

std::string ChildProcess::finish() {
  if (pid_ < 0) return "";
  close_if_open(input_);
  // A child whose output has closed is on its way out: give it a moment to say how before it is killed.
  int status = 0;
  pid_t ended = 0;
  for (int i = 0; i < 50 && ended == 0; ++i) {
    ended = ::waitpid(pid_, &status, WNOHANG);
    if (ended == 0) ::usleep(10000);
  }
  ::kill(-pid_, SIGKILL);
  while (ended == 0 || (ended < 0 && errno == EINTR)) ended = ::waitpid(pid_, &status, 0);
  running_group = 0;
  pid_ = -1;
  if (errors_ >= 0) keep_errors();
  close_if_open(errors_);
  close_if_open(output_);
  return describe_status(status);
}

std::string ChildProcess::last_words() const {
  constexpr std::size_t kShown = 300;
  std::string text = error_text_;
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  if (text.size() > kShown) text = "..." + text.substr(text.size() - kShown);
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace triage::verdict
