#include "verdict/static/constants.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <limits>

namespace triage::static_triage {
namespace {

constexpr int kMaxDepth = 24;  // definitions that refer to each other in a circle end here

// A value with the text that shows how it came about; `known` false: something in it could not be evaluated.
struct Part {
  bool known = false;
  long long value = 0;
  std::string text;
  std::string origin;  // for a name: the arithmetic behind it
  bool simple = true;  // a literal or a name, no operator
};

std::optional<long long> size_of(std::string type) {
  static const std::map<std::string, long long> kSizes = {
      {"char", 1},      {"int8_t", 1},        {"uint8_t", 1},        {"bool", 1},          {"short", 2},
      {"int16_t", 2},   {"uint16_t", 2},      {"half", 2},           {"__half", 2},        {"nv_bfloat16", 2},
      {"__nv_bfloat16", 2}, {"half2", 4},     {"__half2", 4},        {"__nv_bfloat162", 4}, {"int", 4},
      {"unsigned", 4},  {"float", 4},         {"int32_t", 4},        {"uint32_t", 4},      {"double", 8},
      {"long", 8},      {"int64_t", 8},       {"uint64_t", 8},       {"size_t", 8},        {"float2", 8},
      {"int2", 8},      {"uint2", 8},         {"float4", 16},        {"int4", 16},         {"uint4", 16},
      {"double2", 16},  {"__nv_fp8_e4m3", 1}, {"__nv_fp8_e5m2", 1},  {"longlong", 8},
  };
  if (type.find('*') != std::string::npos) return 8;
  for (const char* drop : {"unsigned ", "signed ", "const ", "std::", "::", " const"}) {
    for (std::size_t at = type.find(drop); at != std::string::npos; at = type.find(drop)) {
      type.erase(at, std::string(drop).size());
    }
  }
  const auto found = kSizes.find(trim(type));
  return found == kSizes.end() ? std::nullopt : std::optional<long long>(found->second);
}

// The value of the compiler's own architecture macros for a target; nullopt: not defined there.
std::optional<long long> architecture_macro_value(const std::string& name, const std::optional<Target>& target) {
  if (!target) return std::nullopt;
  if (name == "__CUDA_ARCH__") return target->sm * 10;
  if (name == "__CUDA_ARCH_FEAT_SM" + std::to_string(target->sm) + "_ALL" && target->suffix == 'a') return 1;
  if (name == "__CUDA_ARCH_SPECIFIC__" && target->suffix == 'a') return target->sm * 10;
  if (name == "__CUDA_ARCH_FAMILY_SPECIFIC__" && target->suffix != 0) return target->sm * 10;
  return std::nullopt;
}

bool is_type_word(const std::string& word) {
  return word == "int" || word == "unsigned" || word == "long" || word == "size_t" || word == "bool" ||
         word == "short" || word == "char" || word == "signed" ||
         (word.size() > 2 && word.compare(word.size() - 2, 2, "_t") == 0);
}

}  // namespace

// A recursive-descent reader of C++ integer expressions.
class ExpressionReader {
 public:
  ExpressionReader(const Constants& constants, std::string text, const EvaluationContext& context, bool preprocessor,
                   int depth)
      : constants_(constants), text_(std::move(text)), context_(context), preprocessor_(preprocessor), depth_(depth) {}

  Part read() {
    if (depth_ > kMaxDepth) return {};
    Part part = ternary();
    skip();
    if (at_ != text_.size()) part.known = false;
    return part;
  }

 private:
  void skip() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  bool accept(const std::string& token) {
    skip();
    if (text_.compare(at_, token.size(), token) != 0) return false;
    at_ += token.size();
    return true;
  }
  // A binary operator that is not the beginning of a longer one.
  bool accept_operator(const std::string& token, const char* not_followed) {
    skip();
    if (text_.compare(at_, token.size(), token) != 0) return false;
    const char next = at_ + token.size() < text_.size() ? text_[at_ + token.size()] : ' ';
    for (const char* c = not_followed; *c; ++c) {
      if (next == *c) return false;
    }
    at_ += token.size();
    return true;
  }

  Part ternary() {
    Part condition = binary(0);
    if (!accept("?")) return condition;
    Part yes = ternary();
    if (!accept(":")) return {};
    Part no = ternary();
    if (!condition.known) return {};
    Part chosen = condition.value ? yes : no;
    chosen.text = condition.text + " ? " + yes.text + " : " + no.text;
    chosen.simple = false;
    return chosen;
  }

  struct Operator {
    const char* token;
    int level;
    const char* not_followed;
  };

  Part binary(int level) {
    static const Operator kOperators[] = {
        {"||", 0, ""}, {"&&", 1, ""},  {"|", 2, "|="}, {"^", 3, "="},  {"&", 4, "&="}, {"==", 5, ""},
        {"!=", 5, ""}, {"<=", 6, ""},  {">=", 6, ""},  {"<<", 7, "="}, {">>", 7, "="}, {"<", 6, "<="},
        {">", 6, ">="}, {"+", 8, "="}, {"-", 8, "="},  {"*", 9, "="},  {"/", 9, "="},  {"%", 9, "="},
    };
    if (level == 10) return unary();
    Part left = binary(level + 1);
    for (bool found = true; found;) {
      found = false;
      for (const Operator& op : kOperators) {
        if (op.level != level || !accept_operator(op.token, op.not_followed)) continue;
        left = combine(op.token, left, binary(level + 1));
        found = true;
        break;
      }
    }
    return left;
  }

  static Part combine(const std::string& op, const Part& a, const Part& b) {
    Part result;
    result.text = a.text + " " + op + " " + b.text;
    result.simple = false;
    result.origin = a.origin + (a.origin.empty() || b.origin.empty() ? "" : ", ") + b.origin;
    if (op == "&&" && ((a.known && !a.value) || (b.known && !b.value))) {
      result.known = true;
      return result;
    }
    if (op == "||" && ((a.known && a.value) || (b.known && b.value))) {
      result.known = true;
      result.value = 1;
      return result;
    }
    if (!a.known || !b.known) return result;
    result.known = true;
    const long long x = a.value, y = b.value;
    // Wrapping arithmetic: an overflow of the user's is not ours to trap on.
    const auto wrap = [](unsigned long long v) { return static_cast<long long>(v); };
    const auto ux = static_cast<unsigned long long>(x), uy = static_cast<unsigned long long>(y);
    const bool divisible = y != 0 && !(y == -1 && x == std::numeric_limits<long long>::min());
    if (op == "+") result.value = wrap(ux + uy);
    else if (op == "-") result.value = wrap(ux - uy);
    else if (op == "*") result.value = wrap(ux * uy);
    else if (op == "/" && divisible) result.value = x / y;
    else if (op == "%" && divisible) result.value = x % y;
    else if (op == "<<" && y >= 0 && y < 64) result.value = wrap(ux << uy);
    else if (op == ">>" && y >= 0 && y < 64) result.value = x >> y;
    else if (op == "<") result.value = x < y;
    else if (op == ">") result.value = x > y;
    else if (op == "<=") result.value = x <= y;
    else if (op == ">=") result.value = x >= y;
    else if (op == "==") result.value = x == y;
    else if (op == "!=") result.value = x != y;
    else if (op == "&") result.value = x & y;
    else if (op == "|") result.value = x | y;
    else if (op == "^") result.value = x ^ y;
    else if (op == "&&") result.value = x && y;
    else if (op == "||") result.value = x || y;
    else result.known = false;
    return result;
  }

  Part unary() {
    if (++nesting_ > 200) return {};  // a line of nothing but brackets
    Part part = unary_inner();
    --nesting_;
    return part;
  }

  Part unary_inner() {
    skip();
    if (accept_operator("!", "=")) {
      Part part = unary();
      part.value = !part.value;
      part.text = "!" + part.text;
      return part;
    }
    if (accept("-")) {
      Part part = unary();
      part.value = static_cast<long long>(0ULL - static_cast<unsigned long long>(part.value));
      part.text = "-" + part.text;
      return part;
    }
    if (accept("+")) return unary();
    if (accept("~")) {
      Part part = unary();
      part.value = ~part.value;
      part.text = "~" + part.text;
      return part;
    }
    return primary();
  }

  std::string bracket(char open, char close) {  // the inside of the bracket at at_
    int depth = 0;
    const std::size_t from = at_ + 1;
    for (; at_ < text_.size(); ++at_) {
      if (text_[at_] == open) ++depth;
      if (text_[at_] == close && --depth == 0) return text_.substr(from, at_++ - from);
    }
    return "";
  }

  Part primary() {
    skip();
    if (at_ >= text_.size()) return {};
    const char c = text_[at_];
    if (c == '(') {
      const std::size_t begin = at_;
      const std::string inside = trim(bracket('(', ')'));
      const std::string first = inside.substr(0, inside.find_first_of(" *"));
      if (is_type_word(first) && (inside == first || size_of(inside))) return unary();  // a cast
      at_ = begin + 1;
      Part part = ternary();
      if (!accept(")")) return {};
      if (!part.simple) part.text = "(" + part.text + ")";
      return part;
    }
    if (std::isdigit(static_cast<unsigned char>(c))) return literal();
    if (is_word_char(c) || c == ':') return name();
    return {};
  }

  Part literal() {
    std::string digits;
    while (at_ < text_.size() && (is_word_char(text_[at_]) || text_[at_] == '\'' || text_[at_] == '.')) {
      if (text_[at_] != '\'') digits += text_[at_];
      ++at_;
    }
    Part part;
    part.text = digits;
    char* end = nullptr;
    const bool binary = digits.size() > 2 && digits[0] == '0' && (digits[1] == 'b' || digits[1] == 'B');
    part.value = static_cast<long long>(std::strtoull(digits.c_str() + (binary ? 2 : 0), &end, binary ? 2 : 0));
    part.known = std::string(end).find_first_not_of("uUlLzZ") == std::string::npos;
    return part;
  }

  Part name() {
    std::string full;
    while (at_ < text_.size() && (is_word_char(text_[at_]) || text_.compare(at_, 2, "::") == 0)) {
      full += text_[at_];
      at_ += 1;
      if (full.back() == ':') full += text_[at_++];
    }
    const std::size_t colon = full.rfind("::");
    const std::string word = colon == std::string::npos ? full : full.substr(colon + 2);
    if (word.empty()) return {};
    skip();
    const char next = at_ < text_.size() ? text_[at_] : '\0';
    if (word == "true" || word == "false") return number(word == "true", word);
    if (word == "defined") return defined_operator();
    if (word == "sizeof" && next == '(') {
      const std::string type = trim(bracket('(', ')'));
      const auto size = size_of(type);
      return size ? number(*size, "sizeof(" + type + ")=" + std::to_string(*size)) : Part{};
    }
    if (word == "static_cast" && next == '<') {
      bracket('<', '>');
      skip();
      return at_ < text_.size() && text_[at_] == '(' ? primary() : Part{};
    }
    if (next == '(' && is_type_word(word)) return primary();
    if (next == '(' && (word == "min" || word == "max")) return extreme(word, trim(bracket('(', ')')));
    if (next == '<' && !preprocessor_ && text_.find('>', at_) != std::string::npos && colon == std::string::npos &&
        constants_.definitions_.count(word) == 0 && context_.bindings.count(word) == 0) {
      return {};  // a template: the compiler knows, we do not
    }
    if (const auto builtin = architecture_macro(word)) return *builtin;
    if (const auto bound = context_.bindings.find(word); bound != context_.bindings.end()) {
      const Part value = nested(bound->second, context_);
      return value.known ? number(value.value, word + "=" + std::to_string(value.value)) : Part{};
    }
    const Constants::Definition* definition = constants_.find(word, context_, depth_);
    if (definition == nullptr) {
      if (next == '(') bracket('(', ')');
      return preprocessor_ && next != '(' && word.rfind("__CUDA_ARCH", 0) == 0 ? number(0, word) : Part{};
    }
    if (definition->is_function) return next == '(' ? call(word, *definition) : Part{};
    if (!definition->has_value) return Part{};
    EvaluationContext inner = context_;
    if (!definition->is_macro) inner.line = definition->line;
    ExpressionReader reader(constants_, definition->expression, inner, preprocessor_, depth_ + 1);
    const Part value = reader.read();
    if (!value.known) return {};
    Part part = number(value.value, word + "=" + std::to_string(value.value));
    // What the name stands for, unless it is a plain number.
    if (!value.simple) part.origin = word + " = " + value.text + " = " + std::to_string(value.value);
    else if (!value.origin.empty()) part.origin = word + " = " + value.origin;
    return part;
  }

  static Part number(long long value, const std::string& text) {
    Part part;
    part.known = true;
    part.value = value;
    part.text = text;
    return part;
  }

  Part nested(const std::string& expression, const EvaluationContext& context) const {
    ExpressionReader reader(constants_, expression, context, preprocessor_, depth_ + 1);
    return reader.read();
  }

  Part defined_operator() {
    skip();
    std::string word;
    if (at_ < text_.size() && text_[at_] == '(') {
      word = trim(bracket('(', ')'));
    } else {
      while (at_ < text_.size() && is_word_char(text_[at_])) word += text_[at_++];
    }
    const auto value = constants_.defined(word, context_, depth_ + 1);
    return value ? number(*value, "defined(" + word + ")") : Part{};
  }

  Part extreme(const std::string& word, const std::string& arguments) const {
    const std::vector<std::string> parts = split_arguments(arguments);
    if (parts.size() != 2) return {};
    const Part a = nested(parts[0], context_), b = nested(parts[1], context_);
    if (!a.known || !b.known) return {};
    const long long value = word == "min" ? std::min(a.value, b.value) : std::max(a.value, b.value);
    Part part = number(value, word + "(" + a.text + ", " + b.text + ")");
    part.simple = false;
    return part;
  }

  // A function-like macro or a constexpr function of one return statement.
  Part call(const std::string& word, const Constants::Definition& definition) {
    const std::vector<std::string> arguments = split_arguments(trim(bracket('(', ')')));
    if (arguments.size() != definition.parameters.size()) return {};
    EvaluationContext inner = context_;
    std::string shown;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      const Part argument = nested(arguments[i], context_);
      if (!argument.known) return {};
      inner.bindings[definition.parameters[i]] = std::to_string(argument.value);
      shown += (i ? ", " : "") + argument.text;
    }
    const Part value = nested(definition.expression, inner);
    if (!value.known) return {};
    Part part = number(value.value, word + "(" + shown + ")");
    part.simple = false;
    return part;
  }

  std::optional<Part> architecture_macro(const std::string& word) const {
    if (word.rfind("__CUDA_ARCH", 0) != 0) return std::nullopt;
    const auto value = architecture_macro_value(word, context_.target);
    if (value) return number(*value, word + "=" + std::to_string(*value));
    return preprocessor_ ? number(0, word) : Part{};
  }

  const Constants& constants_;
  std::string text_;
  const EvaluationContext& context_;
  bool preprocessor_;
  int depth_;
  int nesting_ = 0;
  std::size_t at_ = 0;
};

Constants::Constants(const std::vector<std::string>& defines) {
  for (const std::string& define : defines) {
    const std::size_t equals = define.find('=');
    Definition definition;
    definition.is_macro = true;
    definition.expression = equals == std::string::npos ? "1" : define.substr(equals + 1);
    definitions_.emplace(define.substr(0, equals), definition);
  }
}

std::optional<Evaluated> Constants::evaluate(const std::string& expression, const EvaluationContext& context) const {
  ExpressionReader reader(*this, trim(expression), context, false, 0);
  const Part part = reader.read();
  if (!part.known) return std::nullopt;
  Evaluated result;
  result.value = part.value;
  if (part.simple) {
    result.arithmetic = part.origin.empty() ? part.text : part.origin;
  } else {
    result.arithmetic = part.text + " = " + std::to_string(part.value);
    if (!part.origin.empty()) result.arithmetic += ", where " + part.origin;
  }
  return result;
}

std::optional<bool> Constants::condition(const std::string& expression, const EvaluationContext& context) const {
  ExpressionReader reader(*this, trim(expression), context, true, 0);
  const Part part = reader.read();
  return part.known ? std::optional<bool>(part.value != 0) : std::nullopt;
}

std::optional<bool> Constants::holds(const Guard& guard, const EvaluationContext& context) const {
  return holds(guard, context, 0);
}

std::optional<bool> Constants::holds(const Guard& guard, const EvaluationContext& context, int depth) const {
  bool unknown = false;
  std::vector<std::pair<std::string, bool>> wanted;
  for (const std::string& earlier : guard.earlier) wanted.emplace_back(earlier, false);
  wanted.emplace_back(guard.condition, true);
  for (const auto& [text, expected] : wanted) {
    ExpressionReader reader(*this, text, context, true, depth + 1);
    const Part part = reader.read();
    if (!part.known) unknown = true;
    else if ((part.value != 0) != expected) return false;
  }
  return unknown ? std::nullopt : std::optional<bool>(true);
}

// The definition in force: guards not false, scope around the line, nearest above it.
const Constants::Definition* Constants::find(const std::string& name, const EvaluationContext& context,
                                             int depth) const {
  if (depth > kMaxDepth) return nullptr;
  const Definition* best = nullptr;
  const auto [begin, end] = definitions_.equal_range(name);
  for (auto it = begin; it != end; ++it) {
    const Definition& candidate = it->second;
    const bool in_scope = candidate.scope_first == 0 || context.line == 0 ||
                          (context.line >= candidate.scope_first && context.line <= candidate.scope_last);
    const bool above = context.line == 0 || candidate.line <= context.line || candidate.is_macro;
    bool excluded = false;
    for (const Guard& guard : candidate.guards) {
      const auto held = holds(guard, context, depth + 1);
      excluded = excluded || (held && !*held);
    }
    if (!in_scope || !above || excluded) continue;
    if (best == nullptr || candidate.line >= best->line) best = &candidate;
  }
  return best;
}

std::optional<bool> Constants::defined(const std::string& name, const EvaluationContext& context, int depth) const {
  if (depth > kMaxDepth) return std::nullopt;
  if (name.rfind("__CUDA_ARCH", 0) == 0) return architecture_macro_value(name, context.target).has_value();
  if (name == "__CUDACC__" || name == "__NVCC__" || name == "__cplusplus") return true;
  const auto [begin, end] = definitions_.equal_range(name);
  if (begin == end) return std::nullopt;  // a header we have not read may define it
  bool unknown = false;
  for (auto it = begin; it != end; ++it) {
    bool all = true;
    for (const Guard& guard : it->second.guards) {
      const auto held = holds(guard, context, depth + 1);
      all = all && held.value_or(false);
      unknown = unknown || !held;
    }
    if (all) return true;
  }
  return unknown ? std::nullopt : std::optional<bool>(false);
}

}  // namespace triage::static_triage
