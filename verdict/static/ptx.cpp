#include "verdict/static/ptx.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <sstream>
#include <tuple>

#include "verdict/static/instruction_facts.h"

namespace triage::static_triage {
namespace {

bool starts_with(const std::string& text, const char* prefix) { return text.rfind(prefix, 0) == 0; }

std::string trim(const std::string& text) {
  const std::size_t from = text.find_first_not_of(" \t\r\n"), to = text.find_last_not_of(" \t\r\n");
  return from == std::string::npos ? "" : text.substr(from, to - from + 1);
}

// Comments become blanks, line ends stay. Quotes appear in .file directives only.
std::string strip_comments(std::string text) {
  enum { code, line_comment, block_comment, quote } state = code;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i], next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (state == code) {
      if (c == '/' && next == '/') state = line_comment;
      else if (c == '/' && next == '*') state = block_comment;
      else if (c == '"') state = quote;
    } else if (state == quote && (c == '"' || c == '\n')) {
      state = code;
    } else if (state == line_comment && c == '\n') {
      state = code;
    } else if (state == block_comment && c == '*' && next == '/') {
      text[i] = text[i + 1] = ' ';
      ++i;
      state = code;
      continue;
    }
    if ((state == line_comment || state == block_comment) && c != '\n') text[i] = ' ';
  }
  return text;
}

struct RawLocation {
  int file = 0, line = 0, column = 0;
  auto key() const { return std::make_tuple(file, line, column); }
  bool operator<(const RawLocation& other) const { return key() < other.key(); }
};

// The place of the current statement and, for inlined code, of its callers.
class LocationTracker {
 public:
  // ".loc 1 3 3, function_name $L__info_string0, inlined_at 1 6 3"
  void read(const std::string& directive) {
    RawLocation at;
    std::sscanf(directive.c_str(), ".loc %d %d %d", &at.file, &at.line, &at.column);
    const std::size_t inlined = directive.find("inlined_at");
    if (inlined != std::string::npos) {
      RawLocation caller;
      std::sscanf(directive.c_str() + inlined, "inlined_at %d %d %d", &caller.file, &caller.line, &caller.column);
      callers_[at] = caller;
    } else {
      callers_.erase(at);
    }
    current_ = at;
  }
  std::vector<RawLocation> chain() const {
    std::vector<RawLocation> result;
    if (current_.line == 0) return result;
    for (RawLocation at = current_; result.size() < 32;) {
      result.push_back(at);
      const auto caller = callers_.find(at);
      if (caller == callers_.end()) break;
      at = caller->second;
    }
    return result;
  }
  void reset() { *this = LocationTracker(); }

 private:
  RawLocation current_;
  std::map<RawLocation, RawLocation> callers_;
};

std::map<int, std::string> read_files(const std::string& text) {
  std::map<int, std::string> files;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    const std::string t = trim(line);
    if (!starts_with(t, ".file")) continue;
    const std::size_t open = t.find('"'), close = t.find('"', open + 1);
    if (open == std::string::npos || close == std::string::npos) continue;
    files[std::atoi(t.c_str() + 5)] = t.substr(open + 1, close - open - 1);
  }
  return files;
}

// ".visible .entry name(" or ".func (.param .b32 r) name(": the name in front of the parameter list.
std::string function_name(const std::string& header) {
  std::size_t at = header.find(".entry");
  at = at == std::string::npos ? header.find(".func") + 5 : at + 6;
  while (at < header.size() && std::isspace(static_cast<unsigned char>(header[at]))) ++at;
  if (at < header.size() && header[at] == '(') {  // return value
    at = header.find(')', at);
    if (at == std::string::npos) return "";
    ++at;
    while (at < header.size() && std::isspace(static_cast<unsigned char>(header[at]))) ++at;
  }
  std::size_t end = at;
  while (end < header.size() && (std::isalnum(static_cast<unsigned char>(header[end])) ||
                                 std::strchr("_$%.", header[end]) != nullptr)) {
    ++end;
  }
  return header.substr(at, end - at);
}

}  // namespace

int PtxFunction::max_threads() const {
  for (const char* keyword : {".reqntid", ".maxntid"}) {
    for (const PtxStatement& directive : directives) {
      if (!starts_with(directive.text, keyword)) continue;
      int x = 0, y = 1, z = 1;
      std::sscanf(directive.text.c_str() + std::strlen(keyword), "%d , %d , %d", &x, &y, &z);
      return x * y * z;
    }
  }
  return 0;
}

int PtxFunction::work() const {
  int count = 0;
  for (const PtxStatement& statement : body) {
    const std::string& t = statement.text;
    const std::string opcode = opcode_of(t);
    if (opcode.empty() || opcode[0] == '.' || opcode == "ret" || opcode == "exit") continue;
    if (starts_with(opcode, "ld.param") || starts_with(opcode, "cvta")) continue;
    ++count;
  }
  return count;
}

const PtxFunction* PtxModule::find(const std::string& name) const {
  for (const PtxFunction& function : functions) {
    if (function.name == name) return &function;
  }
  return nullptr;
}

const PtxFunction* PtxModule::function_at(int line) const {
  for (const PtxFunction& function : functions) {
    if (line >= function.first_line && line <= function.last_line) return &function;
  }
  return nullptr;
}

PtxModule parse_ptx(const std::string& text) {
  PtxModule module;
  const std::map<int, std::string> files = read_files(text);
  const std::string clean = strip_comments(text);
  const auto file_name = [&](int index) {
    const auto found = files.find(index);
    return found == files.end() ? std::string() : found->second;
  };

  enum { outside, header, body } state = outside;
  PtxFunction function;
  LocationTracker tracker;
  std::string pending;  // a statement so far
  bool blank = true;    // nothing but blanks in it
  int operand_braces = 0;
  int pending_line = 0, depth = 0;
  std::string header_text;

  const auto close_statement = [&] {
    PtxStatement statement;
    statement.text = trim(pending);
    statement.line = pending_line;
    for (const RawLocation& at : tracker.chain()) statement.locations.push_back({file_name(at.file), at.line});
    pending.clear();
    blank = true;
    operand_braces = 0;
    if (!statement.text.empty()) function.body.push_back(std::move(statement));
  };

  std::istringstream in(clean);
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    const std::string t = trim(line);
    if (state == outside) {
      if (starts_with(t, ".version")) module.version = trim(t.substr(8));
      if (t.find(".entry") == std::string::npos && t.find(".func") == std::string::npos) continue;
      function = PtxFunction();
      function.is_entry = t.find(".entry") != std::string::npos;
      function.first_line = number;
      header_text.clear();
      tracker.reset();
      state = header;
    }
    if (state == header) {
      const std::size_t brace = line.find('{');
      header_text += line.substr(0, brace) + "\n";
      if (brace == std::string::npos) {
        if (t.find(';') != std::string::npos) state = outside;  // a declaration
        if (starts_with(t, ".") && !starts_with(t, ".param") && t.find(".entry") == std::string::npos &&
            t.find(".func") == std::string::npos) {
          function.directives.push_back({number, t, {}});
        }
        continue;
      }
      function.name = function_name(header_text);
      state = body;
      depth = 1;
      pending.clear();
      blank = true;
      line = std::string(brace + 1, ' ') + line.substr(brace + 1);
    }
    if (starts_with(t, ".loc")) {
      tracker.read(t);
      if (function.location.line == 0) {
        const auto chain = tracker.chain();
        if (!chain.empty()) function.location = {file_name(chain.back().file), chain.back().line};
      }
      continue;
    }
    // Braces of operands ("{%r1, %r2}") stand inside a statement, over lines too; braces of scopes at the start of one.
    for (char c : line) {
      if (blank) pending_line = number;
      if (c == '{' && blank) {
        ++depth;
      } else if (c == '}' && operand_braces == 0) {
        close_statement();
        if (--depth == 0) break;
      } else if (c == ';') {
        close_statement();
      } else {
        operand_braces += c == '{' ? 1 : c == '}' ? -1 : 0;
        pending += c;
        blank = blank && std::isspace(static_cast<unsigned char>(c));
      }
    }
    if (depth == 0) {
      function.last_line = number;
      module.functions.push_back(function);
      state = outside;
    } else if (!blank) {
      pending += ' ';
    }
  }
  return module;
}

std::string without_functions(const std::string& text, const PtxModule& module, const std::vector<std::string>& names,
                              std::vector<std::string>* removed) {
  std::set<std::string> gone(names.begin(), names.end());
  for (bool changed = true; changed;) {
    changed = false;
    for (const PtxFunction& function : module.functions) {
      if (gone.count(function.name)) continue;
      for (const PtxStatement& statement : function.body) {
        if (statement.text.find("call") == std::string::npos) continue;
        for (const std::string& name : gone) {
          if (statement.text.find(name) == std::string::npos) continue;
          gone.insert(function.name);
          changed = true;
          break;
        }
        if (gone.count(function.name)) break;
      }
    }
  }
  std::string result;
  std::istringstream in(text);
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    const PtxFunction* function = module.function_at(number);
    if (function == nullptr || !gone.count(function->name)) result += line;
    result += '\n';
  }
  if (removed != nullptr) removed->assign(gone.begin(), gone.end());
  return result;
}

}  // namespace triage::static_triage
