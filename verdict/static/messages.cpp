#include "verdict/static/messages.h"

#include <cxxabi.h>

#include <cctype>
#include <cstdlib>
#include <memory>
#include <optional>
#include <sstream>

namespace triage::static_triage {
namespace {

bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

std::string trim(const std::string& text) {
  const std::size_t from = text.find_first_not_of(" \t\r"), to = text.find_last_not_of(" \t\r");
  return from == std::string::npos ? "" : text.substr(from, to - from + 1);
}

struct Keyword {
  const char* text;
  MessageSeverity severity;
};

constexpr Keyword kKeywords[] = {
    {"catastrophic error", MessageSeverity::fatal}, {"fatal error", MessageSeverity::fatal},
    {"internal error", MessageSeverity::fatal},     {"error", MessageSeverity::error},
    {"warning", MessageSeverity::warning},          {"remark", MessageSeverity::note},
    {"note", MessageSeverity::note},
};

// "error: text", "error #20: text", "note #3326-D: text": the severity and what follows.
std::optional<std::pair<MessageSeverity, std::string>> parse_severity(const std::string& rest) {
  for (const Keyword& keyword : kKeywords) {
    const std::string word = keyword.text;
    if (rest.rfind(word, 0) != 0) continue;
    std::size_t at = word.size();
    if (rest.compare(at, 2, " #") == 0) {
      at += 2;
      while (at < rest.size() && (is_digit(rest[at]) || rest[at] == '-' || rest[at] == 'D')) ++at;
    }
    if (at < rest.size() && rest[at] == ':') return std::make_pair(keyword.severity, trim(rest.substr(at + 1)));
  }
  return std::nullopt;
}

// "path(12): error: text" of the CUDA front end. The path may hold anything, "(3): " too: the last one counts.
std::optional<Message> parse_front_end_line(const std::string& line) {
  for (std::size_t at = line.find("): "); at != std::string::npos; at = line.find("): ", at + 1)) {
    std::size_t digits = at;
    while (digits > 0 && is_digit(line[digits - 1])) --digits;
    if (digits == at || digits == 0 || line[digits - 1] != '(' || at - digits > 8) continue;
    const auto severity = parse_severity(line.substr(at + 3));
    if (!severity) continue;
    Message message;
    message.severity = severity->first;
    message.text = severity->second;
    message.file = line.substr(0, digits - 1);
    message.line = std::stoi(line.substr(digits, at - digits));
    return message;
  }
  return std::nullopt;
}

// "path:12:7: error: text" of the host compiler.
std::optional<Message> parse_host_line(const std::string& line) {
  for (std::size_t at = line.find(": "); at != std::string::npos; at = line.find(": ", at + 1)) {
    const auto severity = parse_severity(line.substr(at + 2));
    if (!severity) continue;
    std::string path = line.substr(0, at);
    std::vector<int> numbers;
    for (int i = 0; i < 2; ++i) {
      std::size_t digits = path.size();
      while (digits > 0 && is_digit(path[digits - 1])) --digits;
      if (digits == path.size() || digits == 0 || path[digits - 1] != ':' || path.size() - digits > 8) break;
      numbers.insert(numbers.begin(), std::stoi(path.substr(digits)));
      path = path.substr(0, digits - 1);
    }
    if (path.empty() || path.find_first_of("\n") != std::string::npos) continue;
    Message message;
    message.severity = severity->first;
    message.text = severity->second;
    message.file = numbers.empty() ? "" : path;
    message.line = numbers.empty() ? 0 : numbers.front();
    return message;
  }
  return std::nullopt;
}

// "nvcc fatal   : text", "nvcc error   : text"; also a bare "error: text".
std::optional<Message> parse_tool_line(const std::string& line) {
  Message message;
  if (line.rfind("nvcc ", 0) == 0) {
    const std::size_t colon = line.find(':');
    const std::string word = trim(line.substr(5, colon == std::string::npos ? 0 : colon - 5));
    if (word != "fatal" && word != "error" && word != "warning") return std::nullopt;
    message.severity = word == "warning" ? MessageSeverity::warning : MessageSeverity::fatal;
    message.text = trim(line.substr(colon + 1));
    return message;
  }
  if (const auto severity = parse_severity(line)) {
    message.severity = severity->first;
    message.text = severity->second;
    return message;
  }
  return std::nullopt;
}

long number_before(const std::string& line, const std::string& words) {
  const std::size_t at = line.find(words);
  if (at == std::string::npos) return 0;
  std::size_t digits = at;
  while (digits > 0 && is_digit(line[digits - 1])) --digits;
  return digits == at ? 0 : std::atol(line.substr(digits, at - digits).c_str());
}

std::string in_quotes(const std::string& text) {
  const std::size_t from = text.find('\''), to = text.find('\'', from + 1);
  return from == std::string::npos || to == std::string::npos ? "" : text.substr(from + 1, to - from - 1);
}

}  // namespace

std::vector<Message> parse_messages(const std::string& log) {
  std::vector<Message> messages;
  std::istringstream in(log);
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.rfind("ptxas", 0) == 0) continue;
    const bool indented = !line.empty() && (line[0] == ' ' || line[0] == '\t');
    std::optional<Message> message;
    if (!indented) message = parse_front_end_line(line);
    if (!indented && !message) message = parse_host_line(line);
    if (!indented && !message) message = parse_tool_line(line);
    if (message) {
      messages.push_back(std::move(*message));
    } else if (!messages.empty() && messages.back().details.size() < 60) {
      messages.back().details.push_back(line);
    }
  }
  return messages;
}

std::map<std::string, std::string> template_arguments(const Message& message) {
  std::map<std::string, std::string> result;
  for (const std::string& detail : message.details) {
    const std::size_t from = detail.find("[with "), to = detail.rfind(']');
    if (from == std::string::npos || to == std::string::npos || to < from) continue;
    std::string rest = detail.substr(from + 6, to - from - 6);
    int depth = 0;
    std::string part;
    const auto flush = [&] {
      const std::size_t equals = part.find('=');
      if (equals != std::string::npos) result.emplace(trim(part.substr(0, equals)), trim(part.substr(equals + 1)));
      part.clear();
    };
    for (char c : rest) {
      if (c == '<' || c == '(') ++depth;
      if (c == '>' || c == ')') --depth;
      if (c == ',' && depth == 0) {
        flush();
      } else {
        part += c;
      }
    }
    flush();
    if (!result.empty()) break;  // the innermost instantiation comes first
  }
  return result;
}

int instantiation_line(const Message& message) {
  int line = 0;
  for (const std::string& detail : message.details) {
    const std::size_t at = detail.find("at line ");
    if (at != std::string::npos && at + 8 < detail.size() && is_digit(detail[at + 8])) {
      line = std::atoi(detail.c_str() + at + 8);
    }
  }
  return line;
}

PtxasLog parse_ptxas(const std::string& log) {
  PtxasLog result;
  std::istringstream in(log);
  std::string kernel;
  for (std::string line; std::getline(in, line);) {
    const bool info = line.rfind("ptxas info", 0) == 0, indented = line.rfind("    ", 0) == 0;
    if (info || indented) {
      if (line.find("Compiling entry function") != std::string::npos) {
        kernel = in_quotes(line);
        result.kernels[kernel];
      } else if (line.find("Function properties for") != std::string::npos) {
        kernel = trim(line.substr(line.find("properties for") + 14));
      } else if (line.find("bytes spill stores") != std::string::npos && result.kernels.count(kernel)) {
        KernelUsage& usage = result.kernels[kernel];
        usage.stack_bytes = number_before(line, " bytes stack frame");
        usage.spill_store_bytes = number_before(line, " bytes spill stores");
        usage.spill_load_bytes = number_before(line, " bytes spill loads");
      } else if (line.find("Used ") != std::string::npos && result.kernels.count(kernel)) {
        KernelUsage& usage = result.kernels[kernel];
        usage.registers = static_cast<int>(number_before(line, " registers"));
        usage.barriers = static_cast<int>(number_before(line, " barriers"));
        usage.shared_bytes = number_before(line, " bytes smem");
      } else if (const std::size_t at = line.find("(C7"); at != std::string::npos && info) {
        result.advice.push_back(trim(line.substr(at)));
      }
      continue;
    }
    if (line.rfind("ptxas", 0) != 0) continue;
    // "ptxas FILE, line 29; error   : TEXT", "ptxas error   : TEXT", "ptxas fatal   : TEXT"
    const std::size_t mark = line.find("; error");
    const std::size_t where = mark == std::string::npos ? mark : line.rfind(", line ", mark);
    if (where != std::string::npos) {
      const std::size_t colon = line.find(':', mark);
      result.errors.push_back({std::atoi(line.c_str() + where + 7),
                               colon == std::string::npos ? line : trim(line.substr(colon + 1))});
      continue;
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string word = trim(line.substr(5, colon - 5)), text = trim(line.substr(colon + 1));
    if (word != "error" && word != "fatal") continue;
    const std::size_t size_at = text.find("uses too much shared data (0x");
    if (size_at != std::string::npos) {
      SharedOverflow overflow;
      overflow.kernel = in_quotes(text);
      overflow.bytes = std::strtol(text.c_str() + text.find("(0x") + 1, nullptr, 16);
      const std::size_t max_at = text.find(", 0x");
      overflow.limit = max_at == std::string::npos ? 0 : std::strtol(text.c_str() + max_at + 2, nullptr, 16);
      result.overflows.push_back(overflow);
    } else if (text.find("Unresolved extern") != std::string::npos) {
      result.unresolved.push_back(in_quotes(text));
    } else if (text.find("assembly aborted due to errors") == std::string::npos) {
      if (word == "error") result.errors.push_back({0, text});
      if (word == "fatal") result.fatal = text;
    }
  }
  return result;
}

std::string demangle(const std::string& mangled) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status),
                                                    std::free);
  if (status != 0 || !text) return mangled;
  std::string name = text.get();
  // Internal linkage: "_GLOBAL__N__5b65b656_5_dl_cu__Z2goPf::anon(float*)" is an unnamed namespace's.
  if (name.rfind("_GLOBAL__N__", 0) == 0) {
    if (const std::size_t at = name.find("::"); at != std::string::npos) name = name.substr(at + 2);
  }
  // Parameters: the last "(" at depth 0 of angle brackets. Return type: up to the last blank in front of the name.
  int angle = 0;
  std::size_t parameters = std::string::npos, start = 0;
  for (std::size_t i = 0; i < name.size() && parameters == std::string::npos; ++i) {
    if (name[i] == '<') ++angle;
    if (name[i] == '>') --angle;
    if (angle != 0) continue;
    if (name.compare(i, 21, "(anonymous namespace)") == 0) {
      i += 20;
    } else if (name[i] == '(') {
      parameters = i;
    } else if (name[i] == ' ') {
      start = i + 1;
    }
  }
  name = name.substr(start, parameters == std::string::npos ? parameters : parameters - start);
  // "(int)64" in template arguments
  for (const char* cast : {"(int)", "(unsigned int)", "(long)", "(unsigned long)", "(bool)", "(anonymous namespace)::"}) {
    for (std::size_t at = name.find(cast); at != std::string::npos; at = name.find(cast)) {
      name.erase(at, std::string(cast).size());
    }
  }
  return name;
}

}  // namespace triage::static_triage
