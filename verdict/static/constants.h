// Evaluates the integer constants of a source - macros, constexpr, enumerators, -D - and shows the arithmetic.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "verdict/static/architectures.h"
#include "verdict/static/source.h"

namespace triage::static_triage {

/// What an expression is worth and how: "TILE_M=64 / THREADS=256 = 0".
struct Evaluated {
  long long value = 0;
  std::string arithmetic;
};

/// Where an expression stands: decides which definitions hold.
struct EvaluationContext {
  std::optional<Target> target;                  ///< for __CUDA_ARCH__ and what depends on it; none: host code
  std::map<std::string, std::string> bindings;   ///< template arguments in force
  int line = 0;                                  ///< the nearest definition above counts; 0: the last one
};

class Constants {
 public:
  /// `defines`: of the command line, "X" or "X=1".
  explicit Constants(const std::vector<std::string>& defines = {});
  void add(const SourceFile& file);

  /// nullopt if it holds anything whose value is not known.
  std::optional<Evaluated> evaluate(const std::string& expression, const EvaluationContext& context) const;
  /// A preprocessor condition: undefined names are 0, `defined` works; nullopt if it depends on something unknown.
  std::optional<bool> condition(const std::string& expression, const EvaluationContext& context) const;
  /// Whether a branch of a conditional is compiled.
  std::optional<bool> holds(const Guard& guard, const EvaluationContext& context) const;

  struct Definition {
    std::string expression;
    std::vector<std::string> parameters;  ///< of a macro or constexpr function
    bool is_macro = false;
    bool is_function = false;
    bool has_value = true;  ///< "#define X" has none
    int line = 0;
    std::string file;
    int scope_first = 0, scope_last = 0;  ///< lines of the function around it; 0: none
    std::vector<Guard> guards;
  };

 private:
  friend class ExpressionReader;
  const Definition* find(const std::string& name, const EvaluationContext& context, int depth) const;
  std::optional<bool> defined(const std::string& name, const EvaluationContext& context, int depth) const;
  std::optional<bool> holds(const Guard& guard, const EvaluationContext& context, int depth) const;

  std::multimap<std::string, Definition> definitions_;
};

}  // namespace triage::static_triage
