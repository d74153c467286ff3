// Reads a PTX module: its kernels, what each is made of, and which source line each statement came from.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace triage::static_triage {

/// A place in a source file.
struct SourceLocation {
  std::string file;
  int line = 0;
  bool operator==(const SourceLocation& other) const { return line == other.line && file == other.file; }
};

struct PtxStatement {
  int line = 0;      ///< in the PTX text, from 1
  std::string text;  ///< without comments and the closing semicolon
  /// Innermost first: where the statement stands, then where that function was inlined. Empty without -lineinfo.
  std::vector<SourceLocation> locations;
};

struct PtxFunction {
  std::string name;  ///< mangled
  bool is_entry = false;
  int first_line = 0, last_line = 0;  ///< of the whole definition, from 1
  std::vector<PtxStatement> directives;  ///< between the parameters and the body: ".maxntid 256, 1, 1"
  std::vector<PtxStatement> body;
  SourceLocation location;  ///< of the definition, as far as known

  /// Threads of a block that __launch_bounds__ or __block_size__ promise; 0: none.
  int max_threads() const;
  /// Statements that do something: no declarations, no parameter loads, no return.
  int work() const;
};

struct PtxModule {
  std::string version;  ///< "9.0"
  std::vector<PtxFunction> functions;

  const PtxFunction* find(const std::string& name) const;
  /// The function whose definition holds that PTX line; nullptr: none.
  const PtxFunction* function_at(int line) const;
};

PtxModule parse_ptx(const std::string& text);

/// The text with the definitions of `names`, and of every function that calls one of them, blanked out; line numbers
/// stay. So that the rest of a module can be compiled when some of it cannot.
/// @param removed the names that went, `names` among them.
std::string without_functions(const std::string& text, const PtxModule& module, const std::vector<std::string>& names,
                              std::vector<std::string>* removed);

}  // namespace triage::static_triage
