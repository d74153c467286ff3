// Finds the definitions that `Constants` evaluates: macros, constants, enumerators, constexpr functions.
#include <algorithm>
#include <cctype>
#include <cstring>

#include "verdict/static/constants.h"

namespace triage::static_triage {
namespace {

std::string next_word(const std::string& text, std::size_t& at) {
  while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at]))) ++at;
  const std::size_t from = at;
  while (at < text.size() && is_word_char(text[at])) ++at;
  return text.substr(from, at - from);
}

// The end of an initialiser: the first ";" or "," outside of brackets.
std::size_t expression_end(const std::string& code, std::size_t at) {
  int depth = 0;
  for (; at < code.size(); ++at) {
    if (std::strchr("([{", code[at])) ++depth;
    if (std::strchr(")]}", code[at]) && --depth < 0) return at;
    if (depth == 0 && (code[at] == ';' || code[at] == ',')) return at;
  }
  return std::string::npos;
}

bool is_integer_type(const std::string& text) {
  for (const char* word : {"int", "unsigned", "long", "size_t", "bool", "auto", "short", "int32_t", "uint32_t",
                           "int64_t", "uint64_t", "uint8_t", "uint16_t", "char"}) {
    if (find_word(text, word) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

void Constants::add(const SourceFile& file) {
  const std::string& code = file.code();
  const auto store = [&](const std::string& name, Definition definition, std::size_t offset) {
    definition.line = file.line_of(offset);
    definition.file = file.path();
    definition.guards = file.guards_at(definition.line);
    if (!definition.is_macro) {
      if (const FunctionText* function = file.function_at(definition.line);
          function != nullptr && definition.line >= function->body_first && function->name != name) {
        definition.scope_first = function->line;
        definition.scope_last = function->body_last;
      }
    }
    definitions_.emplace(name, std::move(definition));
  };

  // #define NAME value, #define NAME(a, b) value
  for (std::size_t at = code.find("define"); at != std::string::npos; at = code.find("define", at + 6)) {
    std::size_t before = at;
    while (before > 0 && (code[before - 1] == ' ' || code[before - 1] == '\t')) --before;
    if (before == 0 || code[before - 1] != '#') continue;
    std::size_t cursor = at + 6;
    const std::string name = next_word(code, cursor);
    if (name.empty()) continue;
    Definition definition;
    definition.is_macro = true;
    if (cursor < code.size() && code[cursor] == '(') {
      const std::size_t close = code.find(')', cursor);
      if (close == std::string::npos) break;
      definition.parameters = split_arguments(code.substr(cursor + 1, close - cursor - 1));
      definition.is_function = true;
      cursor = close + 1;
    }
    std::size_t end = std::min(code.find('\n', cursor), code.size());
    while (end > cursor && end < code.size() && code[end - 1] == '\\') end = std::min(code.find('\n', end + 1), code.size());
    definition.expression = code.substr(cursor, end - cursor);
    for (char& c : definition.expression) c = c == '\n' || c == '\\' ? ' ' : c;
    definition.expression = trim(definition.expression);
    definition.has_value = !definition.expression.empty();
    store(name, std::move(definition), at);
  }

  // constexpr int kA = 1, kB = 2; const int ...; static constexpr ...; constexpr int f(int x) { return x; }
  for (const char* keyword : {"constexpr", "const"}) {
    for (std::size_t at = find_word(code, keyword); at != std::string::npos;
         at = find_word(code, keyword, at + 1)) {
      std::size_t stop = at;
      while (stop < code.size() && std::strchr("=;({}<>)", code[stop]) == nullptr) ++stop;
      if (stop >= code.size()) break;
      const std::string head = code.substr(at, stop - at);
      if (!is_integer_type(head)) continue;
      std::size_t name_end = head.find_last_not_of(" \t\n");
      if (name_end == std::string::npos || head.find_first_of("*&[") != std::string::npos) continue;
      ++name_end;
      std::size_t name_begin = name_end;
      while (name_begin > 0 && is_word_char(head[name_begin - 1])) --name_begin;
      std::string name = head.substr(name_begin, name_end - name_begin);
      if (name.empty()) continue;
      if (code[stop] == '=' || code[stop] == '{') {
        std::size_t from = stop + 1;
        for (;;) {  // "a = 1, b = 2"
          std::size_t end = expression_end(code, from);
          if (end == std::string::npos) break;
          Definition definition;
          definition.expression = trim(code.substr(from, end - from));
          store(name, std::move(definition), at + name_begin);
          if (code[end] != ',') break;
          std::size_t cursor = end + 1;
          name = next_word(code, cursor);
          while (cursor < code.size() && std::isspace(static_cast<unsigned char>(code[cursor]))) ++cursor;
          if (name.empty() || cursor >= code.size() || code[cursor] != '=') break;
          from = cursor + 1;
        }
      } else if (code[stop] == '(' && std::strcmp(keyword, "constexpr") == 0) {
        const std::size_t close = code.find(')', stop), open = code.find('{', stop);
        const std::size_t semicolon = code.find(';', stop);
        if (close == std::string::npos || open == std::string::npos || semicolon == std::string::npos) continue;
        std::size_t cursor = open + 1;
        if (open < close || semicolon < open || next_word(code, cursor) != "return") continue;
        Definition definition;
        definition.is_function = true;
        for (const std::string& parameter : split_arguments(code.substr(stop + 1, close - stop - 1))) {
          std::size_t from = parameter.size();
          while (from > 0 && is_word_char(parameter[from - 1])) --from;
          definition.parameters.push_back(parameter.substr(from));
        }
        definition.expression = trim(code.substr(cursor, semicolon - cursor));
        store(name, std::move(definition), at + name_begin);
      }
    }
  }

  // enum { kA = 1, kB, kC = kA * 2 };
  for (std::size_t at = find_word(code, "enum"); at != std::string::npos; at = find_word(code, "enum", at + 1)) {
    const std::size_t open = code.find_first_of("{;", at);
    if (open == std::string::npos || code[open] == ';') continue;
    const std::size_t close = code.find('}', open);
    if (close == std::string::npos) break;
    std::string previous;
    std::size_t cursor = open + 1;
    for (const std::string& enumerator : split_arguments(code.substr(open + 1, close - open - 1))) {
      const std::size_t equals = enumerator.find('=');
      const std::string name = trim(enumerator.substr(0, equals));
      if (name.empty()) continue;
      Definition definition;
      definition.expression = equals != std::string::npos ? trim(enumerator.substr(equals + 1))
                              : previous.empty()          ? "0"
                                                          : previous + " + 1";
      const std::size_t where = find_word(code, name, cursor);
      store(name, std::move(definition), where == std::string::npos ? open : where);
      previous = name;
    }
  }
}

}  // namespace triage::static_triage
