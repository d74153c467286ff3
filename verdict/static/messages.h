// Reads what nvcc, cudafe++/cicc, the host compiler and ptxas print.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace triage::static_triage {

enum class MessageSeverity { error, fatal, warning, note };

/// One message of the front end (cudafe++, cicc), the host compiler or nvcc itself.
struct Message {
  MessageSeverity severity = MessageSeverity::error;
  std::string file;  ///< empty: of the tool, not of a source line
  int line = 0;
  std::string text;
  std::vector<std::string> details;  ///< the lines that follow it: source, "detected during instantiation of ..."

  bool is_error() const { return severity == MessageSeverity::error || severity == MessageSeverity::fatal; }
};

/// Everything that is no message ends as a detail of the message before it.
std::vector<Message> parse_messages(const std::string& log);

/// Template arguments that a message names: "[with M=64, T=256]" gives {{"M","64"},{"T","256"}}.
std::map<std::string, std::string> template_arguments(const Message& message);

/// Where the instantiation was asked for ("... at line 13 of \"x.cu\""): the outermost one; line 0: none.
int instantiation_line(const Message& message);

/// What ptxas -v says of one kernel.
struct KernelUsage {
  int registers = 0;
  long shared_bytes = 0;
  long stack_bytes = 0;
  long spill_store_bytes = 0;
  long spill_load_bytes = 0;
  int barriers = 0;
};

/// An error of ptxas. `line` counts in the PTX file; 0: not about a line.
struct PtxasError {
  int line = 0;
  std::string text;
};

/// A kernel whose static shared memory is past what ptxas allows.
struct SharedOverflow {
  std::string kernel;  ///< mangled
  long bytes = 0;
  long limit = 0;
};

struct PtxasLog {
  std::vector<PtxasError> errors;
  std::vector<SharedOverflow> overflows;
  std::vector<std::string> unresolved;         ///< undefined device functions, mangled
  std::map<std::string, KernelUsage> kernels;  ///< by mangled name
  std::vector<std::string> advice;             ///< "(C7508) Potential Performance Loss: ..."
  std::string fatal;                           ///< a last word that is none of the above; empty if there is none
};

PtxasLog parse_ptxas(const std::string& log);

/// A C++ name from a mangled one, without return type and parameters: "tile<64, 256>". Unmangled names stay.
std::string demangle(const std::string& mangled);

}  // namespace triage::static_triage
