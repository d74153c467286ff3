// What static triage finds out: the data behind every form of the report.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "verdict/static/architectures.h"
#include "verdict/static/ptx.h"

namespace triage::static_triage {

enum class CellState {
  compiles,
  spills,            ///< COMPILES (spills N bytes)
  wont_compile,      ///< WON'T COMPILE (cause)
  too_big,           ///< TOO BIG (shared memory X of Y KB)
  needs_target,      ///< NEEDS `a` TARGET
  empty_body,        ///< compiles, but to nothing, or without what the kernel is for
  not_instantiated,  ///< a template that nothing instantiates: never compiled
  unknown_target,    ///< this nvcc does not know the architecture
  no_answer,         ///< timed out, crashed, toolchain broken: nothing can be said
};

/// One cell of the matrix.
struct Cell {
  CellState state = CellState::no_answer;
  std::string detail;  ///< what stands in brackets
  long spill_bytes = 0;

  /// Whether a launch there can do what the source says.
  bool runs() const { return state == CellState::compiles || state == CellState::spills; }
  bool fails() const {
    return state == CellState::wont_compile || state == CellState::too_big || state == CellState::needs_target ||
           state == CellState::empty_body;
  }
};

std::string cell_text(const Cell& cell);

enum class CauseKind {
  instruction,          ///< an instruction that the architecture lacks
  wide_guard,           ///< ... behind a __CUDA_ARCH__ test that lets the architecture in
  feature_name,         ///< a name of the CUDA headers that the architecture lacks
  zero_sized_array,
  static_assertion,
  missing_header,
  undefined_name,
  undefined_function,   ///< a device function without a definition in this file
  shared_memory,
  launch_limits,        ///< threads or registers past what a block may have
  empty_body,
  spills,
  error_directive,      ///< #error
  host_code,            ///< only the host compiler objects
  compile_error,        ///< any other message of the compiler
  toolchain,
  timeout,
  crash,
};

const char* kind_name(CauseKind kind);  ///< "zero-sized-array", for --json

enum class Severity { fails, warns, informs };

struct Cause {
  CauseKind kind = CauseKind::compile_error;
  Severity severity = Severity::fails;
  std::string feature;  ///< id of the instruction table's row; empty: none
  SourceLocation where;
  std::vector<SourceLocation> via;  ///< inlined or instantiated from here, innermost first
  std::vector<SourceLocation> also;  ///< further places of the same cause
  std::string source_line;
  std::string cell;    ///< the few words that the matrix shows: "wgmma", "zero-sized array"
  std::string found;
  std::string why;
  std::string fix;
  /// The part of the fix that differs by target: (target, "cp.async into the same stages ...").
  std::vector<std::pair<std::string, std::string>> fix_by_target;
  bool host_only = false;            ///< the device side compiles
  bool unlockable = false;           ///< another suffix of the same architecture would do
  std::string reference;             ///< "PTX ISA 9.1, section ..."
  std::vector<std::string> kernels;  ///< names; empty: the whole file
  std::vector<std::string> targets;  ///< "90a"; those it holds for
  bool everywhere = false;   ///< on every target that gave an answer: no architecture's own
  bool unreached = false;    ///< read in the source, where the compiler did not get to
  /// For the merge over targets: causes with the same key are one.
  std::string key;
};

/// How many blocks of a kernel one multiprocessor holds.
struct Occupancy {
  int threads = 0;  ///< of a block
  bool assumed = false;  ///< no __launch_bounds__ and no launch told it
  int blocks = 0;
  int percent = 0;
  std::string limit;  ///< "registers", "shared memory", "warps", "blocks"
};

struct KernelOnTarget {
  Cell cell;
  bool measured = false;  ///< the numbers below are ptxas's
  int registers = 0;
  long static_shared = 0, dynamic_shared = 0, stack = 0, spill_stores = 0, spill_loads = 0;
  bool dynamic_known = false;  ///< a launch in the source says how much
  std::optional<Occupancy> occupancy;
};

struct KernelReportRow {
  std::string name;
  SourceLocation where;
  std::vector<KernelOnTarget> targets;  ///< one a target of the report
};

/// What to do for an architecture that a file does not run on.
struct PathForward {
  std::string target;
  std::vector<std::string> steps;     ///< "replace wgmma by mma.sync ..."
  std::vector<std::string> examples;  ///< kernels of Triage that do it there
};

struct FileVerdict {
  std::string path;
  std::string summary;  ///< one sentence
  std::vector<Cell> cells;  ///< one a target
  std::vector<KernelReportRow> kernels;
  std::vector<Cause> causes;
  std::vector<PathForward> path_forward;
  std::vector<std::string> notes;  ///< what else is worth knowing
  double seconds = 0.0;            ///< of compiling
};

struct Verdict {
  std::string nvcc, nvcc_version;
  std::vector<Target> targets;
  std::vector<std::string> unknown_targets;  ///< of `targets`, those this nvcc does not know
  std::vector<FileVerdict> files;
  int exit_code = 0;
};

/// "a, b and c"
std::string join(const std::vector<std::string>& parts, const char* last = " and ");
/// "file.cu:12"
std::string place(const SourceLocation& where);
/// 101376 -> "99", 50000 -> "48.8"
std::string kilobytes(long bytes);

}  // namespace triage::static_triage
