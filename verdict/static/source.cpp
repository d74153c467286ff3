#include "verdict/static/source.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <stdexcept>

#include "verdict/static/instruction_facts.h"

namespace triage::static_triage {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{16} << 20;  // what is past it only the compiler sees

std::size_t skip_space(const std::string& text, std::size_t at) {
  while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at]))) ++at;
  return at;
}

// The offset behind the bracket that closes the one at `open`; npos if none does.
std::size_t behind_bracket(const std::string& text, std::size_t open) {
  const char opening = text[open], closing = opening == '(' ? ')' : opening == '{' ? '}' : opening == '<' ? '>' : ']';
  int depth = 0;
  for (std::size_t i = open; i < text.size(); ++i) {
    if (text[i] == opening) ++depth;
    if (text[i] == closing && --depth == 0) return i + 1;
    if (opening == '<' && (text[i] == ';' || text[i] == '{')) break;
  }
  return std::string::npos;
}

std::string word_before(const std::string& text, std::size_t end) {
  std::size_t from = end;
  while (from > 0 && is_word_char(text[from - 1])) --from;
  return text.substr(from, end - from);
}

// Raw strings: R"tag( ... )tag"
std::size_t raw_string_end(const std::string& text, std::size_t quote) {
  const std::size_t open = text.find('(', quote);
  if (open == std::string::npos || open - quote > 17) return std::string::npos;
  const std::string close = ")" + text.substr(quote + 1, open - quote - 1) + "\"";
  const std::size_t end = text.find(close, open);
  return end == std::string::npos ? end : end + close.size();
}

void blank(std::string& text, std::size_t from, std::size_t to) {
  for (std::size_t i = from; i < std::min(to, text.size()); ++i) {
    if (text[i] != '\n') text[i] = ' ';
  }
}

// `code`: comments and strings blank. `with_strings`: comments alone.
void strip(const std::string& text, std::string& code, std::string& with_strings) {
  code = with_strings = text;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i], next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (c == '/' && (next == '/' || next == '*')) {
      std::size_t end = text.find(next == '/' ? "\n" : "*/", i + 2);
      if (end == std::string::npos) end = text.size();
      else if (next == '*') end += 2;
      blank(code, i, end);
      blank(with_strings, i, end);
      i = end - 1;
    } else if (c == '"') {
      std::size_t end = std::string::npos;
      const std::string prefix = word_before(text, i);
      if (!prefix.empty() && prefix.back() == 'R') end = raw_string_end(text, i);
      if (end == std::string::npos) {
        end = i + 1;
        while (end < text.size() && text[end] != '"' && text[end] != '\n') end += text[end] == '\\' ? 2 : 1;
        end = std::min(end + 1, text.size());
      }
      blank(code, i + 1, end - 1);
      i = end - 1;
    } else if (c == '\'' && !(i > 0 && is_word_char(text[i - 1]))) {  // not the separator of 1'000
      std::size_t end = i + 1;
      while (end < text.size() && text[end] != '\'' && text[end] != '\n') end += text[end] == '\\' ? 2 : 1;
      blank(code, i + 1, std::min(end, text.size()));
      i = std::min(end, text.size());
    }
  }
}

// The offset behind a list of template arguments that opens at `open`; npos if the "<" compares.
std::size_t template_list_end(const std::string& text, std::size_t open) {
  int depth = 0;
  for (std::size_t i = open; i < text.size(); ++i) {
    const char c = text[i];
    const bool operand = is_word_char(c) || c == ' ' || c == ',' || c == ':' || c == '*' || c == '&' || c == '(' || c == ')';
    if (c == '<') ++depth;
    else if (c == '>' && --depth == 0) return i + 1 < text.size() && text[i + 1] == '=' ? std::string::npos : i + 1;
    else if (c != '>' && !operand) return std::string::npos;
  }
  return std::string::npos;
}

// A string literal's value: escapes that matter in assembly.
std::string unescape(const std::string& literal) {
  std::string result;
  for (std::size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 >= literal.size()) {
      result += literal[i];
      continue;
    }
    const char c = literal[++i];
    result += c == 'n' ? '\n' : c == 't' ? '\t' : c == '\n' ? ' ' : c;
  }
  return result;
}

}  // namespace

std::string trim(const std::string& text) {
  const std::size_t from = text.find_first_not_of(" \t\r\n\f\v"), to = text.find_last_not_of(" \t\r\n\f\v");
  return from == std::string::npos ? "" : text.substr(from, to - from + 1);
}

bool is_word_char(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

std::size_t find_word(const std::string& text, const std::string& word, std::size_t from) {
  for (std::size_t at = text.find(word, from); at != std::string::npos; at = text.find(word, at + 1)) {
    const bool left = at == 0 || !is_word_char(text[at - 1]);
    const bool right = at + word.size() >= text.size() || !is_word_char(text[at + word.size()]);
    if (left && right) return at;
  }
  return std::string::npos;
}

std::vector<std::string> split_arguments(const std::string& text) {
  std::vector<std::string> parts;
  std::string part;
  int depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '<') {
      if (const std::size_t end = template_list_end(text, i); end != std::string::npos) {
        part += text.substr(i, end - i);
        i = end - 1;
        continue;
      }
    }
    if (c == '(' || c == '[' || c == '{') ++depth;
    if (c == ')' || c == ']' || c == '}') --depth;
    if (c == ',' && depth == 0) {
      parts.push_back(trim(part));
      part.clear();
    } else {
      part += c;
    }
  }
  if (!trim(part).empty() || !parts.empty()) parts.push_back(trim(part));
  return parts;
}

SourceFile SourceFile::load(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read '" + path + "'");
  std::string text(kMaxBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  const bool truncated = text.size() > kMaxBytes;
  if (truncated) text.resize(kMaxBytes);
  SourceFile file = from_text(path, std::move(text));
  file.truncated_ = truncated;
  return file;
}

SourceFile SourceFile::from_text(std::string path, std::string text) {
  SourceFile file;
  file.path_ = std::move(path);
  file.text_ = std::move(text);
  file.scan();
  return file;
}

void SourceFile::scan() {
  line_starts_ = {0};
  for (std::size_t i = 0; i < text_.size(); ++i) {
    if (text_[i] == '\n') line_starts_.push_back(i + 1);
  }
  strip(text_, code_, with_strings_);
  scan_conditionals();
  scan_functions();
  scan_asm();
  scan_launches();
}

std::string SourceFile::line(int number) const {
  if (number < 1 || static_cast<std::size_t>(number) > line_starts_.size()) return "";
  const std::size_t from = line_starts_[static_cast<std::size_t>(number) - 1];
  const std::size_t to = static_cast<std::size_t>(number) < line_starts_.size()
                             ? line_starts_[static_cast<std::size_t>(number)] - 1
                             : text_.size();
  std::string result = trim(text_.substr(from, std::min<std::size_t>(to - from, 400)));
  return result.size() > 160 ? result.substr(0, 157) + "..." : result;
}

int SourceFile::line_of(std::size_t offset) const {
  const auto after = std::upper_bound(line_starts_.begin(), line_starts_.end(), offset);
  return static_cast<int>(after - line_starts_.begin());
}

void SourceFile::scan_conditionals() {
  std::vector<Conditional> open;
  for (std::size_t number = 1; number <= line_starts_.size(); ++number) {
    const std::size_t from = line_starts_[number - 1];
    std::size_t at = skip_space(code_, from);
    const std::size_t line_end = std::min(code_.find('\n', from), code_.size());
    if (at >= line_end || code_[at] != '#') continue;
    at = skip_space(code_, at + 1);
    std::size_t end = at;
    while (end < code_.size() && is_word_char(code_[end])) ++end;
    const std::string directive = code_.substr(at, end - at);
    if (directive == "include") {
      const std::size_t quote = with_strings_.find('"', end), close = with_strings_.find('"', quote + 1);
      if (quote < line_end && close < line_end) includes_.push_back(with_strings_.substr(quote + 1, close - quote - 1));
      continue;
    }
    std::size_t stop = line_end;  // a backslash continues the directive
    while (stop > from && stop < code_.size() && code_[stop - 1] == '\\') {
      stop = std::min(code_.find('\n', stop + 1), code_.size());
    }
    std::string condition = code_.substr(end, stop > end ? stop - end : 0);
    for (char& c : condition) c = c == '\n' || c == '\\' ? ' ' : c;
    condition = trim(condition);
    const int line = static_cast<int>(number);
    if (directive == "if" || directive == "ifdef" || directive == "ifndef") {
      if (directive == "ifdef") condition = "defined(" + condition + ")";
      if (directive == "ifndef") condition = "!defined(" + condition + ")";
      Conditional conditional;
      conditional.if_line = line;
      conditional.branches.push_back({line, line, condition, {}});
      open.push_back(conditional);
    } else if ((directive == "elif" || directive == "else") && !open.empty()) {
      Conditional& conditional = open.back();
      conditional.branch_ends.push_back(line - 1);
      Guard branch{line, conditional.if_line, directive == "else" ? "1" : condition, {}};
      for (const Guard& earlier : conditional.branches) branch.earlier.push_back(earlier.condition);
      conditional.has_else = conditional.has_else || directive == "else";
      conditional.branches.push_back(branch);
    } else if (directive == "endif" && !open.empty()) {
      open.back().branch_ends.push_back(line - 1);
      open.back().end_line = line;
      conditionals_.push_back(open.back());
      open.pop_back();
    }
  }
  std::sort(conditionals_.begin(), conditionals_.end(),
            [](const Conditional& a, const Conditional& b) { return a.if_line < b.if_line; });
}

std::vector<Guard> SourceFile::guards_at(int line) const {
  std::vector<Guard> result;
  for (const Conditional& conditional : conditionals_) {
    for (std::size_t i = 0; i < conditional.branches.size(); ++i) {
      if (line > conditional.branches[i].line && line <= conditional.branch_ends[i]) {
        result.push_back(conditional.branches[i]);
      }
    }
  }
  return result;
}

// A "{" opens a function if "name(...)" stands before it outside of any function.
void SourceFile::scan_functions() {
  static const char* const kNoNames[] = {"if", "for", "while", "switch", "catch", "return", "decltype", "alignas",
                                         "__launch_bounds__", "__attribute__", "__align__", "__cluster_dims__",
                                         "__block_size__", "__maxnreg__", "requires", "noexcept", "asm", "sizeof"};
  std::size_t header = 0;  // where the current declaration began
  std::vector<std::size_t> parentheses;
  for (std::size_t i = 0; i < code_.size(); ++i) {
    const char c = code_[i];
    if (c == '#' && trim(code_.substr(line_starts_[static_cast<std::size_t>(line_of(i)) - 1],
                                      i - line_starts_[static_cast<std::size_t>(line_of(i)) - 1])).empty()) {
      // A directive is no part of a declaration.
      std::size_t end = std::min(code_.find('\n', i), code_.size());
      while (end < code_.size() && code_[end - 1] == '\\') end = std::min(code_.find('\n', end + 1), code_.size());
      i = end;
      continue;
    }
    if (c == '(') {
      const std::size_t end = behind_bracket(code_, i);
      if (end != std::string::npos) i = end - 1;
      continue;
    }
    if (c == ';' || c == '}') header = i + 1;
    if (c != '{') continue;
    const std::string declaration = code_.substr(header, i - header);
    // The name: the last identifier directly before a "(" that is no attribute's.
    std::string name;
    std::size_t name_at = std::string::npos;
    const std::size_t global = find_word(declaration, "__global__");
    for (std::size_t open = declaration.find('(', global == std::string::npos ? 0 : global);
         open != std::string::npos;) {
      std::size_t end = open;
      while (end > 0 && std::isspace(static_cast<unsigned char>(declaration[end - 1]))) --end;
      const std::string word = word_before(declaration, end);
      const bool attribute = std::any_of(std::begin(kNoNames), std::end(kNoNames),
                                         [&](const char* no) { return word == no; });
      if (!word.empty() && !attribute && !std::isdigit(static_cast<unsigned char>(word[0]))) {
        name = word;
        name_at = header + end - word.size();
        break;
      }
      const std::size_t behind = behind_bracket(declaration, open);
      open = behind == std::string::npos ? behind : declaration.find('(', behind);
    }
    header = i + 1;
    if (name.empty()) continue;  // namespace, struct, enum: look inside
    const std::size_t end = behind_bracket(code_, i);
    if (end == std::string::npos) continue;
    FunctionText function;
    function.name = name;
    function.is_kernel = global != std::string::npos;
    function.line = line_of(name_at);
    function.body_begin = i + 1;
    function.body_end = end - 1;
    function.body_first = line_of(i);
    function.body_last = line_of(end - 1);
    functions_.push_back(function);
    i = end - 1;
    header = end;
  }
}

void SourceFile::scan_asm() {
  for (const char* word : {"asm", "__asm__", "__asm"}) {
    for (std::size_t at = find_word(code_, word); at != std::string::npos; at = find_word(code_, word, at + 1)) {
      std::size_t open = skip_space(code_, at + std::string(word).size());
      for (const char* qualifier : {"volatile", "__volatile__"}) {
        if (code_.compare(open, std::string(qualifier).size(), qualifier) == 0) {
          open = skip_space(code_, open + std::string(qualifier).size());
        }
      }
      if (open >= code_.size() || code_[open] != '(') continue;
      // Adjacent literals up to the first ":" or ")"; each piece of text keeps its line.
      AsmBlock block;
      block.line = line_of(at);
      const std::size_t behind = behind_bracket(code_, open);
      block.last_line = behind == std::string::npos ? block.line : line_of(behind - 1);
      std::string statement;
      int statement_line = block.line;
      const auto close = [&] {
        if (!opcode_of(statement).empty()) {
          block.statements.push_back(trim(statement));
          block.lines.push_back(statement_line);
        }
        statement.clear();
      };
      std::size_t i = open + 1;
      while (i < code_.size() && code_[i] != ':' && code_[i] != ')') {
        if (code_[i] != '"') {
          ++i;
          continue;
        }
        const std::string prefix = word_before(code_, i);
        std::size_t end = std::string::npos, from = i + 1;
        std::string literal;
        if (!prefix.empty() && prefix.back() == 'R') end = raw_string_end(with_strings_, i);
        if (end != std::string::npos) {
          from = with_strings_.find('(', i) + 1;
          literal = with_strings_.substr(from, with_strings_.rfind(')', end - 1) - from);
        } else {
          end = code_.find('"', i + 1);
          if (end == std::string::npos) break;
          literal = unescape(with_strings_.substr(from, end - from));
          ++end;
        }
        int line = line_of(i);
        for (char c : literal) {
          if (trim(statement).empty()) statement_line = line;
          if (c == ';' || (c == '\n' && statement.find("//") != std::string::npos)) {
            close();
          } else {
            statement += c;
          }
          if (c == '\n' && !prefix.empty() && prefix.back() == 'R') ++line;
        }
        i = end;
      }
      close();
      if (!block.statements.empty()) asm_blocks_.push_back(block);
    }
  }
  std::sort(asm_blocks_.begin(), asm_blocks_.end(),
            [](const AsmBlock& a, const AsmBlock& b) { return a.line < b.line; });
}

void SourceFile::scan_launches() {
  for (std::size_t at = code_.find("<<<"); at != std::string::npos; at = code_.find("<<<", at + 3)) {
    const std::size_t close = code_.find(">>>", at);
    if (close == std::string::npos) break;
    Launch launch;
    launch.line = line_of(at);
    launch.arguments = split_arguments(code_.substr(at + 3, close - at - 3));
    std::size_t end = at;
    while (end > 0 && std::isspace(static_cast<unsigned char>(code_[end - 1]))) --end;
    if (end > 0 && code_[end - 1] == '>') {
      std::size_t open = end;
      for (int depth = 0; open > 0;) {
        --open;
        if (code_[open] == '>') ++depth;
        if (code_[open] == '<' && --depth == 0) break;
      }
      launch.template_arguments = trim(code_.substr(open + 1, end - open - 2));
      end = open;
    }
    launch.kernel = word_before(code_, end);
    if (!launch.kernel.empty()) launches_.push_back(launch);
  }
  for (std::size_t at = find_word(code_, "cudaFuncSetAttribute"); at != std::string::npos;
       at = find_word(code_, "cudaFuncSetAttribute", at + 1)) {
    const std::size_t open = code_.find('(', at);
    const std::size_t end = open == std::string::npos ? open : behind_bracket(code_, open);
    if (end == std::string::npos) continue;
    const std::vector<std::string> arguments = split_arguments(code_.substr(open + 1, end - open - 2));
    if (arguments.size() != 3 || arguments[1].find("MaxDynamicSharedMemorySize") == std::string::npos) continue;
    SharedRequest request;
    request.line = line_of(at);
    const std::string kernel = arguments[0].substr(0, arguments[0].find('<'));
    request.kernel = word_before(kernel, trim(kernel).empty() ? 0 : kernel.find_last_not_of(" \t\n)") + 1);
    request.bytes = arguments[2];
    shared_requests_.push_back(request);
  }
}

const FunctionText* SourceFile::function_at(int line) const {
  for (const FunctionText& function : functions_) {
    if (line >= function.line && line <= function.body_last) return &function;
  }
  return nullptr;
}

const FunctionText* SourceFile::find_kernel(const std::string& name) const {
  for (const FunctionText& function : functions_) {
    if (function.is_kernel && function.name == name) return &function;
  }
  return nullptr;
}

bool SourceFile::calls(const FunctionText& function, const std::string& name) const {
  const std::size_t at = find_word(code_, name, function.body_begin);
  return at != std::string::npos && at < function.body_end;
}

bool SourceFile::has_word(const std::string& word) const { return find_word(code_, word) != std::string::npos; }

}  // namespace triage::static_triage
