// Causes of what the front end and the host compiler say.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "verdict/static/diagnose.h"
#include "verdict/static/instruction_facts.h"
#include "verdict/static/replacements.h"

namespace triage::static_triage {
namespace {

namespace fs = std::filesystem;

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// The first "..." (or '...') behind `after`.
std::string in_quotes(const std::string& text, const char* after = "") {
  const std::size_t from = text.find(after);
  if (from == std::string::npos) return "";
  const std::size_t open = text.find_first_of("\"'", from + std::string(after).size());
  if (open == std::string::npos) return "";
  const std::size_t close = text.find(text[open], open + 1);
  return close == std::string::npos ? "" : text.substr(open + 1, close - open - 1);
}

// The code around a line: from its first character to the end of the statement.
std::string statement_at(const SourceFile& file, int line) {
  std::size_t from = 0;
  for (int i = 1; i < line && from != std::string::npos; ++i) from = file.code().find('\n', from) + 1;
  const std::size_t end = file.code().find(';', from);
  return file.code().substr(from, std::min<std::size_t>(end == std::string::npos ? end : end - from, 2000));
}

std::vector<std::string> dimensions_of(const std::string& code, std::size_t at) {
  std::vector<std::string> result;
  while (at < code.size()) {
    while (at < code.size() && std::isspace(static_cast<unsigned char>(code[at]))) ++at;
    if (at >= code.size() || code[at] != '[') break;
    int depth = 0;
    const std::size_t from = at + 1;
    for (; at < code.size(); ++at) {
      if (code[at] == '[') ++depth;
      if (code[at] == ']' && --depth == 0) break;
    }
    if (at >= code.size()) break;
    result.push_back(trim(code.substr(from, at - from)));
    ++at;
  }
  return result;
}

// The array sizes that come out as zero or less: in the declaration of `variable`, or in the type of it.
std::vector<Evaluated> empty_dimensions(const std::string& variable, const SourceFile& file, int line,
                                        const EvaluationContext& context, const Constants& constants,
                                        std::string* shown) {
  std::vector<Evaluated> result;
  const auto check = [&](const std::vector<std::string>& dimensions, const EvaluationContext& where) {
    for (const std::string& dimension : dimensions) {
      const auto value = constants.evaluate(dimension, where);
      if (value && value->value <= 0) result.push_back(*value);
    }
  };
  const std::string statement = statement_at(file, line);
  std::size_t at = find_word(statement, variable);
  if (at != std::string::npos) {
    const std::vector<std::string> dimensions = dimensions_of(statement, at + variable.size());
    *shown = variable;
    for (const std::string& dimension : dimensions) *shown += "[" + dimension + "]";
    check(dimensions, context);
    if (!result.empty() || !dimensions.empty()) return result;
    // "Fragment<128> f": the arrays of the type, with its template arguments
    const std::size_t angle = statement.find('<');
    std::size_t end = angle != std::string::npos && angle < at ? angle : at;
    while (end > 0 && !is_word_char(statement[end - 1])) --end;
    std::size_t from = end;
    while (from > 0 && is_word_char(statement[from - 1])) --from;
    const std::string type = statement.substr(from, end - from);
    for (const char* keyword : {"struct ", "class ", "union "}) {
      const std::size_t definition = type.empty() ? std::string::npos : find_word(file.code(), keyword + type);
      const std::size_t open = definition == std::string::npos ? definition : file.code().find('{', definition);
      const std::size_t close = open == std::string::npos ? open : file.code().find("};", open);
      if (close == std::string::npos) continue;
      EvaluationContext inner = context;
      inner.line = file.line_of(open);
      if (angle != std::string::npos && angle < at) {
        const std::vector<std::string> arguments =
            split_arguments(statement.substr(angle + 1, statement.find('>', angle) - angle - 1));
        const std::size_t list = file.code().rfind("template", definition), opening = file.code().find('<', list);
        const std::size_t closing = file.code().rfind('>', definition);
        if (list != std::string::npos && opening < closing && closing < definition) {
          const auto parameters = split_arguments(file.code().substr(opening + 1, closing - opening - 1));
          for (std::size_t i = 0; i < std::min(parameters.size(), arguments.size()); ++i) {
            std::size_t word = parameters[i].size();
            while (word > 0 && is_word_char(parameters[i][word - 1])) --word;
            if (const auto value = constants.evaluate(arguments[i], context)) {
              inner.bindings[parameters[i].substr(word)] = std::to_string(value->value);
            }
          }
        }
      }
      for (std::size_t i = open; i < close; ++i) {
        if (file.code()[i] == '[') check(dimensions_of(file.code(), i), inner);
      }
      *shown = variable + ", of type " + type;
    }
  }
  return result;
}

// A header that lies near the source, in a place that is not searched.
std::string nearby_header(const std::string& header, const std::string& source) {
  std::error_code error;
  fs::path directory = fs::absolute(source, error).parent_path();
  for (int level = 0; level < 4 && !directory.empty(); ++level, directory = directory.parent_path()) {
    for (const char* sub : {"", "include", "src", "csrc", "third_party", "3rdparty/include"}) {
      const fs::path candidate = directory / sub;
      if (fs::is_regular_file(candidate / header, error)) return candidate.lexically_normal().string();
    }
    if (directory == directory.root_path()) break;
  }
  return "";
}

struct HeaderHint {
  const char* prefix;
  const char* hint;
};
constexpr HeaderHint kHeaderHints[] = {
    {"cutlass/", "it is CUTLASS's: pass -I <cutlass>/include (PyPI: nvidia-cutlass)"},
    {"cute/", "it is CUTLASS's: pass -I <cutlass>/include (PyPI: nvidia-cutlass)"},
    {"torch/", "it is PyTorch's: pass -I for each of torch.utils.cpp_extension.include_paths()"},
    {"ATen/", "it is PyTorch's: pass -I for each of torch.utils.cpp_extension.include_paths()"},
    {"c10/", "it is PyTorch's: pass -I for each of torch.utils.cpp_extension.include_paths()"},
    {"pybind11/", "it is pybind11's: pass -I with the output of python3 -m pybind11 --includes"},
    {"Python.h", "it is Python's: install python3-dev and pass -I with sysconfig's include path"},
    {"cublas", "it is cuBLAS's: install the toolkit's libcublas-dev package"},
    {"cudnn", "it is cuDNN's: install cuDNN and pass its include directory with -I"},
    {"nccl.h", "it is NCCL's: install libnccl-dev"},
    {"cub/", "it is CCCL's: it comes with the CUDA toolkit (package cuda-cccl)"},
    {"thrust/", "it is CCCL's: it comes with the CUDA toolkit (package cuda-cccl)"},
    {"cuda/", "it is libcu++'s: it comes with the CUDA toolkit (package cuda-cccl)"},
};

struct NameHint {
  const char* name;
  const char* header;
};
constexpr NameHint kNameHints[] = {
    {"half", "<cuda_fp16.h>"},           {"__half", "<cuda_fp16.h>"},          {"half2", "<cuda_fp16.h>"},
    {"__half2", "<cuda_fp16.h>"},        {"__float2half", "<cuda_fp16.h>"},    {"__half2float", "<cuda_fp16.h>"},
    {"__nv_bfloat16", "<cuda_bf16.h>"},  {"nv_bfloat16", "<cuda_bf16.h>"},     {"__nv_bfloat162", "<cuda_bf16.h>"},
    {"__nv_fp8_e4m3", "<cuda_fp8.h>"},   {"__nv_fp8_e5m2", "<cuda_fp8.h>"},    {"CUtensorMap", "<cuda.h>"},
    {"uint32_t", "<cstdint>"},           {"uint64_t", "<cstdint>"},            {"int32_t", "<cstdint>"},
    {"int64_t", "<cstdint>"},            {"uint8_t", "<cstdint>"},             {"int8_t", "<cstdint>"},
    {"uint16_t", "<cstdint>"},           {"printf", "<cstdio>"},               {"cooperative_groups", "<cooperative_groups.h>"},
    {"wmma", "<mma.h>"},                 {"nvcuda", "<mma.h>"},                {"FLT_MAX", "<cfloat>"},
    {"INFINITY", "<cmath>"},             {"assert", "<cassert>"},              {"curandState", "<curand_kernel.h>"},
    {"cub", "<cub/cub.cuh>"},            {"cute", "<cute/tensor.hpp> of CUTLASS"}, {"cutlass", "<cutlass/cutlass.h>"},
};

int edit_distance(const std::string& a, const std::string& b) {
  std::vector<int> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int next = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = row[j];
      row[j] = next;
    }
  }
  return row[b.size()];
}

// A word of the source that differs by a slip of the finger.
std::string similar_word(const std::string& name, const SourceFile& file) {
  if (name.size() < 4) return "";
  std::string best;
  int best_distance = name.size() < 8 ? 2 : 3;
  std::map<std::string, int> words;
  const std::string& code = file.code();
  for (std::size_t i = 0; i < code.size(); ++i) {
    std::size_t end = i;
    while (end < code.size() && is_word_char(code[end])) ++end;
    if (end > i && words.size() < 20000) ++words[code.substr(i, std::min<std::size_t>(end - i, 64))];
    i = end;
  }
  for (const auto& [word, count] : words) {
    if (word == name || word.size() + 3 < name.size() || name.size() + 3 < word.size()) continue;
    const int distance = edit_distance(name, word);
    if (distance < best_distance) best_distance = distance, best = word;
  }
  return best;
}

void explain_zero_array(Cause& cause, const Message& message, const SourceFile* file, const EvaluationContext& context,
                        SourceSet& sources) {
  cause.kind = CauseKind::zero_sized_array;
  cause.cell = "zero-sized array";
  const std::string variable = in_quotes(message.text);
  std::string shown = variable;
  std::vector<Evaluated> empty;
  if (file != nullptr && !variable.empty()) {
    empty = empty_dimensions(variable, *file, message.line, context, sources.constants(), &shown);
  }
  cause.found = shown.empty() ? "an array of size 0" : fmt::format("`{}` has size 0", shown);
  for (const Evaluated& size : empty) cause.found += fmt::format(": {}", size.arithmetic);
  cause.why = "device code may not hold an array without elements";
  std::string dividend, divisor;
  for (const Evaluated& size : empty) {
    // "kRows = TILE_M=64 / THREADS=256 = 0": the words around the slash
    const std::size_t slash = size.arithmetic.find(" / ");
    if (slash == std::string::npos || size.value != 0) continue;
    const std::size_t before = size.arithmetic.rfind(' ', slash - 1), after = size.arithmetic.find(' ', slash + 3);
    dividend = size.arithmetic.substr(before == std::string::npos ? 0 : before + 1, slash - before - 1);
    divisor = size.arithmetic.substr(slash + 3, after - slash - 3);
  }
  if (!dividend.empty()) {
    cause.why += fmt::format("; {} is less than {}, and an integer division rounds down", dividend, divisor);
    cause.fix = fmt::format("raise {} or lower {} until the quotient is at least 1, or round it up, (a + b - 1) / b, and "
                            "guard the surplus; a static_assert on it says so in words next time",
                            dividend.substr(0, dividend.find('=')), divisor.substr(0, divisor.find('=')));
  } else {
    cause.fix = "give the array at least one element, or leave it out with `if constexpr` where its size is 0";
  }
}

void explain_static_assertion(Cause& cause, const Message& message, const SourceFile* file,
                              const EvaluationContext& context, SourceSet& sources) {
  cause.kind = CauseKind::static_assertion;
  cause.cell = "static assertion";
  const std::string words = in_quotes(message.text);
  cause.found = words.empty() ? "a static assertion failed" : fmt::format("a static assertion failed: \"{}\"", words);
  cause.why = "the source itself demands this to hold";
  cause.fix = "choose constants that satisfy it";
  if (file == nullptr) return;
  const std::string statement = statement_at(*file, message.line);
  const std::size_t at = find_word(statement, "static_assert"), open = statement.find('(', at);
  if (at == std::string::npos || open == std::string::npos) return;
  const auto arguments = split_arguments(statement.substr(open + 1, statement.rfind(')') - open - 1));
  if (arguments.empty()) return;
  if (const auto value = sources.constants().evaluate(arguments[0], context)) {
    std::string arithmetic = value->arithmetic;
    if (arithmetic.size() > 4 && arithmetic.compare(arithmetic.size() - 4, 4, " = 0") == 0) {
      arithmetic.resize(arithmetic.size() - 4);
    }
    cause.found += fmt::format("; {} is false", arithmetic);
  }
}

void explain_missing_header(Cause& cause, const std::string& header, SourceSet& sources) {
  cause.kind = CauseKind::missing_header;
  cause.cell = "missing header";
  cause.found = fmt::format("the header `{}` is not found", header);
  cause.why = "no directory that is searched holds it";
  cause.fix = "pass its directory with -I";
  for (const HeaderHint& hint : kHeaderHints) {
    if (header.rfind(hint.prefix, 0) == 0) cause.fix = hint.hint;
  }
  if (const std::string place = nearby_header(header, sources.main().path()); !place.empty()) {
    cause.fix = fmt::format("pass -I {} (it lies there)", place);
  }
  cause.key = "missing-header|" + header;
}

void explain_name(Cause& cause, const std::string& name, const Target& target, SourceSet& sources) {
  cause.kind = CauseKind::undefined_name;
  cause.cell = fmt::format("undefined `{}`", name);
  cause.why = "nothing that is included declares it";
  cause.fix = "declare it, or include the header that does";
  if (const InstructionFact* fact = match_name(name); fact != nullptr && !available(*fact, target)) {
    cause.kind = CauseKind::feature_name;
    cause.feature = fact->id;
    cause.cell = fact->name;
    cause.why = fmt::format("the CUDA headers declare it only where the hardware has it: {} ({})",
                            fact->meaning, availability_text(*fact));
    cause.fix_by_target = {{target.name(), replacement(*fact, target)}};
    cause.fix = fmt::format("keep it behind `#if {}`", exact_guard(*fact));
    cause.reference = reference_text(*fact);
    return;
  }
  for (const NameHint& hint : kNameHints) {
    if (name == hint.name) cause.fix = fmt::format("#include {}", hint.header);
  }
  if (const std::string similar = similar_word(name, sources.main()); !similar.empty() && cause.fix[0] != '#') {
    cause.fix += fmt::format("; `{}` in the same file looks like it", similar);
  }
}

// The name that a message finds undeclared; empty: it is about something else.
std::string undeclared_name(const std::string& text) {
  if (contains(text, "\" is undefined")) return in_quotes(text, "identifier ");
  if (contains(text, "has no member \"")) return in_quotes(text, "has no member ");
  if (contains(text, "has no actual member \"")) return in_quotes(text, "has no actual member ");
  if (contains(text, "the global scope has no \"")) return in_quotes(text, "the global scope has no ");
  if (contains(text, "was not declared in this scope") || contains(text, "has not been declared") ||
      contains(text, "does not name a type")) {
    std::string plain = text;
    for (const char* mark : {"‘", "’"}) {
      for (std::size_t at = plain.find(mark); at != std::string::npos; at = plain.find(mark)) {
        plain.replace(at, std::string(mark).size(), "'");
      }
    }
    return in_quotes(plain);
  }
  return "";
}

}  // namespace

std::vector<Cause> diagnose_messages(const CompileResult& compiled, SourceSet& sources, bool host) {
  std::vector<Cause> causes;
  for (const Message& message : compiled.messages) {
    if (!message.is_error()) continue;
    // Words that end a list of errors.
    if (contains(message.text, "Error limit reached") || contains(message.text, "errors detected in the compil")) continue;
    const SourceFile* file = sources.get(message.file);
    Cause cause;
    cause.where = {sources.shown(message.file), message.line};
    cause.source_line = file ? file->line(message.line) : "";
    cause.targets = {compiled.target.name()};
    cause.key = fmt::format("{}|{}|{}", message.file, message.line, message.text);
    cause.found = message.text;
    cause.cell = "compile error";
    if (const int line = instantiation_line(message)) cause.via.push_back({sources.shown(message.file), line});
    const FunctionText* function = file && sources.is_main(message.file) ? file->function_at(message.line) : nullptr;
    if (function != nullptr && function->is_kernel) cause.kernels.push_back(function->name);

    EvaluationContext context;
    if (!host) context.target = compiled.target;
    context.bindings = template_arguments(message);
    context.line = file != nullptr && sources.is_main(message.file) ? message.line : 0;

    const std::string& text = message.text;
    if (contains(text, "zero-sized variable") || contains(text, "size of an array must be greater than zero") ||
        contains(text, "zero-length array")) {
      explain_zero_array(cause, message, file, context, sources);
    } else if (contains(text, "static assertion failed")) {
      explain_static_assertion(cause, message, file, context, sources);
    } else if (contains(text, "No such file or directory") && !message.file.empty()) {
      explain_missing_header(cause, text.substr(0, text.rfind(": No such file")), sources);
    } else if (contains(text, "cannot open source file")) {
      explain_missing_header(cause, in_quotes(text), sources);
    } else if (text.rfind("#error", 0) == 0) {
      cause.kind = CauseKind::error_directive;
      cause.cell = "#error";
      cause.why = "the source refuses this configuration itself";
      cause.fix = "define or include what the directive asks for";
    } else if (const std::string name = undeclared_name(text); !name.empty()) {
      explain_name(cause, name, compiled.target, sources);
    } else if (contains(text, "is not supported for this GPU architecture")) {
      explain_name(cause, text.substr(0, text.find(' ')), compiled.target, sources);
      if (cause.kind != CauseKind::feature_name) cause.why = "the compiler offers it on other architectures only";
    } else {
      cause.kind = host ? CauseKind::host_code : CauseKind::compile_error;
      cause.why = host ? "the host compiler rejects the host side of the source" : "the compiler rejects the source";
      cause.fix = contains(text, "calling a __host__ function")
                      ? "mark the called function __device__ (for constexpr ones: -- --expt-relaxed-constexpr)"
                      : "correct the line named";
    }
    if (host) cause.cell = "host code: " + cause.cell;
    causes.push_back(cause);
  }
  return causes;
}

}  // namespace triage::static_triage
