// Static triage: compiles CUDA sources for each architecture and says where they run, where not, why, and what to do.
// Needs nvcc, not a GPU. Never runs the user's code.
#pragma once

#include <string>
#include <vector>

namespace triage::static_triage {

enum class ReportFormat { text, json, markdown, html };

/// One output of the report; an empty path is standard output.
struct ReportOutput {
  ReportFormat format = ReportFormat::text;
  std::string path;
};

/// What `triage verdict FILE.cu...` was asked for; the fields are the command's options.
struct StaticTriageOptions {
  std::vector<std::string> files;
  std::vector<std::string> include_dirs;   ///< -I
  std::vector<std::string> defines;        ///< -D, without the "-D": "X" or "X=1"
  std::vector<std::string> architectures;  ///< --arch, each "90a" or a comma-separated list; empty: the default six
  int cpp_standard = 0;                    ///< --std 17; 0: nvcc's own default
  std::vector<std::string> nvcc_flags;     ///< after `--`, handed to nvcc as they are
  std::string nvcc;                        ///< path of nvcc; empty: PATH, CUDA_HOME, CUDA_PATH, /usr/local/cuda
  double timeout_seconds = 120.0;          ///< for each compile
  int jobs = 0;                            ///< compiles at a time; 0: one per core
  std::vector<ReportOutput> outputs;       ///< empty: text on standard output
};

/// The six targets that stand for A100, RTX 30, L4 and RTX 40, H100, B200 and RTX 50.
inline constexpr const char* kDefaultArchitectures = "80,86,89,90a,100a,120a";

enum ExitCode : int {
  kAllCompile = 0,     ///< every file builds for every architecture asked for
  kSomeWillNotRun = 1,  ///< at least one file or kernel will not run on at least one of them
  kUsage = 2,          ///< the request makes no sense; a sentence on standard error says why
  kNoCompiler = 3,     ///< no nvcc, or none that knows an architecture that was asked for by name
  kTimeoutOrCrash = 5,  ///< a compile ran out of time, or the compiler itself died
  kInterrupted = 130,  ///< Ctrl-C
};

/// Does all of it: checks the request, compiles, prints the report. Progress and errors go to standard error.
/// @return one of ExitCode.
int run_static_triage(const StaticTriageOptions& options);

}  // namespace triage::static_triage
