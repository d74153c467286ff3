// Runs the triage program as a user would, for tests of the command line.
#pragma once

#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace triage::test {

struct ProgramResult {
  int exit_code = -1;  // 128 + signal if it was killed
  std::string out, err;
  double seconds = 0, seconds_to_first_output = 0;
};

using Variables = std::vector<std::pair<std::string, std::string>>;

inline std::string program_path() { return std::string(TRIAGE_BINARY_DIR) + "/triage"; }

inline int exit_code_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

/// In the child: variables set (an empty value unsets), then exec.
[[noreturn]] inline void become_program(const std::vector<std::string>& arguments, const Variables& variables) {
  for (const auto& [name, value] : variables) {
    value.empty() ? unsetenv(name.c_str()) : setenv(name.c_str(), value.c_str(), 1);
  }
  std::vector<std::string> strings{program_path()};
  strings.insert(strings.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& string : strings) argv.push_back(string.data());
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  _exit(127);
}

/// Standard output and standard error apart. `interrupt_after` seconds: SIGINT then (0: never).
inline ProgramResult run_program(const std::vector<std::string>& arguments, const Variables& variables = {},
                                 double interrupt_after = 0) {
  ProgramResult result;
  int out[2], err[2];
  if (pipe(out) != 0 || pipe(err) != 0) return result;
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  const pid_t child = fork();
  if (child == 0) {
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    for (int end : {out[0], out[1], err[0], err[1]}) close(end);
    become_program(arguments, variables);
  }
  close(out[1]);
  close(err[1]);
  const auto drain = [&](int file, std::string& text, double* first) {
    std::array<char, 4096> chunk;
    for (ssize_t count; (count = read(file, chunk.data(), chunk.size())) > 0;) {
      if (first && text.empty()) *first = elapsed();
      text.append(chunk.data(), static_cast<std::size_t>(count));
    }
    close(file);
  };
  std::thread errors([&] { drain(err[0], result.err, nullptr); });
  std::thread interrupter([&] {
    if (interrupt_after <= 0) return;
    std::this_thread::sleep_for(std::chrono::duration<double>(interrupt_after));
    kill(child, SIGINT);
  });
  drain(out[0], result.out, &result.seconds_to_first_output);
  errors.join();
  interrupter.join();
  int status = 0;
  waitpid(child, &status, 0);
  result.exit_code = exit_code_of(status);
  result.seconds = elapsed();
  return result;
}

/// Both streams on a terminal of 120 columns, as `out`.
inline ProgramResult run_on_terminal(const std::vector<std::string>& arguments, const Variables& variables = {}) {
  ProgramResult result;
  winsize size{};
  size.ws_row = 40;
  size.ws_col = 120;
  int terminal = -1;
  const pid_t child = forkpty(&terminal, nullptr, nullptr, &size);
  if (child == 0) become_program(arguments, variables);
  std::array<char, 4096> chunk;
  for (ssize_t count; (count = read(terminal, chunk.data(), chunk.size())) > 0;) {
    result.out.append(chunk.data(), static_cast<std::size_t>(count));
  }
  close(terminal);
  int status = 0;
  waitpid(child, &status, 0);
  result.exit_code = exit_code_of(status);
  return result;
}

}  // namespace triage::test
