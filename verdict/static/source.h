// A light reading of CUDA source: kernels, inline assembly, preprocessor guards, launches. No parser: it looks at text
// with comments and strings taken out, and what it does not understand it leaves to the compiler's own messages.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace triage::static_triage {

/// One branch of a conditional: the text of its #if, #ifdef, #elif or #else as an expression.
struct Guard {
  int line = 0;           ///< of the directive that opened the branch
  int if_line = 0;        ///< of the conditional's #if
  std::string condition;  ///< "__CUDA_ARCH__ >= 900"; "1" for #else
  std::vector<std::string> earlier;  ///< conditions of the branches before it: all must be false
};

/// A conditional as a whole.
struct Conditional {
  int if_line = 0, end_line = 0;
  bool has_else = false;
  std::vector<Guard> branches;
  std::vector<int> branch_ends;  ///< last line of each branch
};

struct AsmBlock {
  int line = 0, last_line = 0;  ///< from the keyword to the closing bracket
  std::vector<std::string> statements;  ///< its PTX statements
  std::vector<int> lines;               ///< the source line of each
};

struct FunctionText {
  std::string name;
  bool is_kernel = false;
  int line = 0;  ///< where its name stands
  int body_first = 0, body_last = 0;  ///< lines of "{" and "}"
  std::size_t body_begin = 0, body_end = 0;  ///< offsets in `code`, without the braces
};

/// kernel<<<grid, block, shared, stream>>>(...)
struct Launch {
  int line = 0;
  std::string kernel;                 ///< without template arguments
  std::string template_arguments;     ///< "64, 256"; empty: none
  std::vector<std::string> arguments;  ///< grid, block, shared bytes, stream: as written
};

/// cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)
struct SharedRequest {
  int line = 0;
  std::string kernel;  ///< as Launch::kernel
  std::string bytes;
};

class SourceFile {
 public:
  /// @throws std::runtime_error with a sentence if the file cannot be read.
  static SourceFile load(const std::string& path);
  static SourceFile from_text(std::string path, std::string text);

  const std::string& path() const { return path_; }
  /// The source line as written, trimmed; "" past the end.
  std::string line(int number) const;
  /// Comments and the insides of strings are blanks; offsets and line numbers are those of the text.
  const std::string& code() const { return code_; }
  int line_of(std::size_t offset) const;
  bool truncated() const { return truncated_; }

  const std::vector<FunctionText>& functions() const { return functions_; }
  const std::vector<Conditional>& conditionals() const { return conditionals_; }
  const std::vector<AsmBlock>& asm_blocks() const { return asm_blocks_; }
  const std::vector<Launch>& launches() const { return launches_; }
  const std::vector<SharedRequest>& shared_requests() const { return shared_requests_; }
  const std::vector<std::string>& quoted_includes() const { return includes_; }

  /// The branches that a line stands in, outermost first.
  std::vector<Guard> guards_at(int line) const;
  const FunctionText* function_at(int line) const;
  const FunctionText* find_kernel(const std::string& name) const;
  /// Whether the code of a function calls `name`.
  bool calls(const FunctionText& function, const std::string& name) const;
  /// Whether a line holds this word in code.
  bool has_word(const std::string& word) const;

 private:
  void scan();
  void scan_conditionals();
  void scan_functions();
  void scan_asm();
  void scan_launches();

  std::string path_, text_, code_, with_strings_;
  std::vector<std::size_t> line_starts_;
  bool truncated_ = false;
  std::vector<FunctionText> functions_;
  std::vector<Conditional> conditionals_;
  std::vector<AsmBlock> asm_blocks_;
  std::vector<Launch> launches_;
  std::vector<SharedRequest> shared_requests_;
  std::vector<std::string> includes_;
};

/// Splits at commas that stand outside of brackets.
std::vector<std::string> split_arguments(const std::string& text);
std::string trim(const std::string& text);
bool is_word_char(char c);
/// Offset of `word` as a whole word in `text` from `from` on; npos: none.
std::size_t find_word(const std::string& text, const std::string& word, std::size_t from = 0);

}  // namespace triage::static_triage
