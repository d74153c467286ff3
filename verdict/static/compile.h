// Compiles one source for one target, and keeps what the compiler said and what it made.
#pragma once

#include <string>
#include <vector>

#include "verdict/static/messages.h"
#include "verdict/static/ptx.h"
#include "verdict/static/toolchain.h"

namespace triage::static_triage {

struct InstructionFact;

/// What all compiles share.
struct CompileSettings {
  const Toolchain* toolchain = nullptr;
  std::vector<std::string> front_end_flags;  ///< -I, -D, -std and the user's own
  std::vector<std::string> user_flags;       ///< behind `--`: for the assembler's step too
  double timeout_seconds = 120.0;
  std::string scratch;  ///< directory for temporary files
};

enum class CompileState {
  ok,
  front_end_failed,  ///< no PTX: the source does not compile
  assembler_failed,  ///< PTX, but not for every kernel machine code
  unknown_target,    ///< this nvcc does not know the target
  toolchain_failed,  ///< nvcc itself is broken (no host compiler, say)
  timed_out,
  crashed,           ///< the compiler died
  interrupted,
};

/// An instruction of the table in a kernel, and where it came from.
struct InstructionUse {
  const InstructionFact* fact = nullptr;
  std::string statement;
  std::vector<SourceLocation> locations;  ///< innermost first
};

/// A kernel as the compiler made it for the target.
struct CompiledKernel {
  std::string mangled, name;
  SourceLocation location;
  int max_threads = 0;        ///< of __launch_bounds__; 0: not given
  int work = 0;               ///< statements of its PTX that do something
  bool only_traps = false;    ///< its first deed is a trap
  bool multiplies = false;    ///< holds a matrix instruction or a floating-point multiplication
  std::vector<InstructionUse> uses;
  bool assembled = false;
  KernelUsage usage;          ///< if assembled
};

/// Why the assembler refused a statement.
struct AssemblerFailure {
  std::string text;       ///< of ptxas
  std::string statement;  ///< empty: not about one
  const InstructionFact* fact = nullptr;
  std::vector<SourceLocation> locations;
  std::vector<std::string> kernels;  ///< mangled; that hold it or call what holds it
};

/// A device function that is called and not defined.
struct UnresolvedFunction {
  std::string name;                  ///< mangled
  std::vector<std::string> kernels;  ///< mangled; that call it
};

struct CompileResult {
  Target target;
  CompileState state = CompileState::interrupted;
  std::string step;                ///< what timed out or crashed: "front end", "assembler", "host code"
  std::string sentence;            ///< for the states that need one
  std::vector<Message> messages;   ///< of the front end: errors and warnings
  std::vector<CompiledKernel> kernels;
  std::vector<AssemblerFailure> failures;
  std::vector<SharedOverflow> overflows;
  std::vector<UnresolvedFunction> unresolved;
  std::vector<std::string> advice;
  std::string ptx_version;
  double seconds = 0.0;
};

/// Both steps: front end to PTX, ptxas to machine code. Kernels that ptxas refuses are taken out and the rest is
/// compiled again, so that each kernel is judged on its own.
CompileResult compile_for_target(const std::string& source, const Target& target, const CompileSettings& settings,
                                 int serial);

/// The host side alone (no device code is generated): what only the host compiler finds.
CompileResult compile_host(const std::string& source, const Target& target, const CompileSettings& settings, int serial);

}  // namespace triage::static_triage
