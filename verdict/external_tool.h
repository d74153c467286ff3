// Programs of the CUDA toolkit that watch a worker process: found where they are installed, run under a time limit.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "verdict/child_process.h"
#include "verdict/job.h"

namespace triage::verdict {

struct ExternalTool {
  std::string path;     ///< empty: not found
  std::string version;  ///< e.g. "2025.3.1.0"; empty if it does not say
  explicit operator bool() const { return !path.empty(); }
};

/// Looks in PATH, then in bin of CUDA_HOME, CUDA_PATH and /usr/local/cuda, and asks the program for its version.
ExternalTool find_external_tool(const std::string& name);

/// What came of one job in a worker process under a tool.
struct ToolRun {
  bool timed_out = false;
  bool interrupted = false;
  std::string ended;    ///< how the tool's process ended, e.g. "it exited with code 1"
  std::string log;      ///< what the tool wrote to its log file
  std::string output;   ///< what tool and worker printed
  Json result;          ///< the worker's answer; null if there is none
  std::string refusal;  ///< a sentence if the kernel does not take the problem
  std::string error;    ///< a sentence if the job failed
  double seconds = 0;
};

/// Runs the job in a worker process that the tool starts. May be called from several threads at once.
/// @param command of the tool: its path and its options; gets the name of the log file.
/// @throws std::runtime_error if there is no folder for temporary files
ToolRun run_under_tool(const std::function<std::vector<std::string>(const std::string& log)>& command, const Job& job,
                       const Environment& environment, double timeout_seconds);

/// The last lines of a text, on one line and not too long, for a sentence.
std::string last_words_of(const std::string& text);

}  // namespace triage::verdict
