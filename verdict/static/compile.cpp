#include "verdict/static/compile.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "verdict/static/instruction_facts.h"
#include "verdict/static/process.h"

namespace triage::static_triage {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int kMaxPasses = 16;  // of ptxas over what is left of a module

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

double remaining(double timeout, Clock::time_point begin) {
  return std::max(0.1, timeout - std::chrono::duration<double>(Clock::now() - begin).count());
}

bool has_flag(const std::vector<std::string>& flags, const char* a, const char* b) {
  return std::find(flags.begin(), flags.end(), a) != flags.end() || std::find(flags.begin(), flags.end(), b) != flags.end();
}

// A name that begins with "-" would be taken for a flag.
std::string as_path(const std::string& source) { return source[0] == '-' ? "./" + source : source; }

ProcessOptions process_options(const CompileSettings& settings, const std::string& scratch, double seconds) {
  ProcessOptions options;
  options.timeout_seconds = seconds;
  options.environment = settings.toolchain->environment;
  options.environment.push_back("TMPDIR=" + scratch);  // nvcc's own temporary files go with ours
  options.environment.push_back("LC_ALL=C");           // messages in the language that we read
  return options;
}

// A process that did not end as it should. @return whether that is the result.
bool bad_end(const ProcessResult& process, const std::string& step, const CompileSettings& settings,
             CompileResult& result) {
  result.step = step;
  const auto number = [](double value) {
    std::ostringstream text;
    text << value;
    return text.str();
  };
  switch (process.outcome) {
    case ProcessOutcome::interrupted: result.state = CompileState::interrupted; return true;
    case ProcessOutcome::timed_out:
      result.state = CompileState::timed_out;
      result.sentence = "the " + step + " did not finish within " + number(settings.timeout_seconds) +
                        " s (--timeout); a template or constexpr recursion without end does this";
      return true;
    case ProcessOutcome::signalled:
      result.state = CompileState::crashed;
      result.sentence = "nvcc was killed by signal " + std::to_string(process.signal) + " (" +
                        strsignal(process.signal) + ")";
      return true;
    case ProcessOutcome::not_started:
      result.state = CompileState::toolchain_failed;
      result.sentence = process.output;
      return true;
    case ProcessOutcome::exited: break;
  }
  // "nvcc error   : 'cicc' died due to signal 11 (Invalid memory reference)"
  if (const std::size_t at = process.output.find(" died due to signal"); at != std::string::npos) {
    const std::size_t begin = process.output.rfind('\'', at - 2), end = process.output.find('\n', at);
    result.state = CompileState::crashed;
    result.sentence = "the compiler itself died: " +
                      process.output.substr(begin == std::string::npos ? at : begin, end - begin);
    return true;
  }
  return false;
}

// nvcc's own words that are about the machine, not about the source.
bool toolchain_problem(const ProcessResult& process, CompileResult& result) {
  for (const Message& message : parse_messages(process.output)) {
    const std::string& t = message.text;
    if (!message.is_error()) continue;
    if (t.find("Unsupported gpu architecture") != std::string::npos) {
      result.state = CompileState::unknown_target;
      return true;
    }
    const bool host_compiler = t.find("host compiler") != std::string::npos ||
                               t.find("unsupported GNU version") != std::string::npos ||
                               t.find("unsupported clang version") != std::string::npos;
    const bool no_space = t.find("No space left on device") != std::string::npos;
    const bool usage = message.file.empty() && (t.find("Unknown option") != std::string::npos ||
                                                t.find("is not in 'keyword=value' format") != std::string::npos ||
                                                t.find("is not defined for option") != std::string::npos);
    if (host_compiler || no_space || usage) {
      result.state = CompileState::toolchain_failed;
      result.sentence = "nvcc: " + t;
      return true;
    }
  }
  // The shell's word for a host compiler that is not there.
  for (const char* words : {"g++: not found", "gcc: not found", "cc1plus: not found", "cannot execute 'cc1plus'",
                            "cannot execute ‘cc1plus’"}) {
    if (process.output.find(words) == std::string::npos) continue;
    result.state = CompileState::toolchain_failed;
    result.sentence = "nvcc finds no host compiler (" + std::string(words) + "): install g++, or name one with -- -ccbin";
    return true;
  }
  return false;
}

// The end of a log, on one line.
std::string trim_log(const std::string& log) {
  std::string text = log.size() > 400 ? "..." + log.substr(log.size() - 400) : log;
  for (char& c : text) c = c == '\n' ? ' ' : c;
  return text;
}

CompiledKernel summarise(const PtxFunction& function, const PtxModule& module) {
  CompiledKernel kernel;
  kernel.mangled = function.name;
  kernel.name = demangle(function.name);
  kernel.location = function.location;
  kernel.max_threads = function.max_threads();
  kernel.work = function.work();

  // What it calls belongs to it.
  std::vector<const PtxFunction*> parts = {&function};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    for (const PtxStatement& statement : parts[i]->body) {
      if (statement.text.find("call") == std::string::npos) continue;
      for (const PtxFunction& other : module.functions) {
        if (other.is_entry || statement.text.find(other.name) == std::string::npos) continue;
        if (std::find(parts.begin(), parts.end(), &other) == parts.end()) parts.push_back(&other);
      }
    }
  }
  std::set<std::pair<const InstructionFact*, int>> seen;
  for (const PtxFunction* part : parts) {
    const auto note = [&](const PtxStatement& statement) {
      const std::string opcode = opcode_of(statement.text);
      if (opcode.rfind("fma", 0) == 0 || opcode.rfind("mul.f", 0) == 0 || opcode.rfind("mul.rn.f", 0) == 0 ||
          opcode.rfind("mul.ftz", 0) == 0 || opcode.rfind("mul.b", 0) == 0) {
        kernel.multiplies = true;
      }
      const InstructionFact* fact = match_instruction(statement.text);
      kernel.multiplies = kernel.multiplies || multiplies_matrices(statement.text);
      if (fact == nullptr) return;
      const int line = statement.locations.empty() ? 0 : statement.locations.front().line;
      if (kernel.uses.size() < 500 && seen.emplace(fact, line).second) {
        kernel.uses.push_back({fact, statement.text, statement.locations});
      }
    };
    for (const PtxStatement& directive : part->directives) note(directive);
    for (const PtxStatement& statement : part->body) note(statement);
  }
  // A trap before any branch, store or label: the body was replaced by one.
  for (const PtxStatement& statement : function.body) {
    const std::string opcode = opcode_of(statement.text);
    if (opcode == "trap") kernel.only_traps = true;
    if (opcode == "trap" || opcode.rfind("bra", 0) == 0 || opcode.rfind("st.global", 0) == 0 || opcode == "ret") break;
  }
  return kernel;
}

// Assembles; takes out what ptxas refuses and assembles the rest, until it has nothing more to say.
void assemble(std::string ptx, const PtxModule& module, const CompileSettings& settings, const std::string& scratch,
              Clock::time_point begin, CompileResult& result) {
  const std::string ptx_path = scratch + "/kernel.ptx", cubin_path = scratch + "/kernel.cubin";
  std::set<std::string> removed;
  for (int pass = 0; pass < kMaxPasses; ++pass) {
    std::ofstream(ptx_path, std::ios::binary) << ptx;
    std::vector<std::string> command = {settings.toolchain->nvcc, "-cubin", "-arch=" + result.target.code(),
                                        "-Xptxas", "-v", "-o", cubin_path};
    command.insert(command.end(), settings.user_flags.begin(), settings.user_flags.end());
    command.push_back(ptx_path);
    const ProcessResult process =
        run_process(command, process_options(settings, scratch, remaining(settings.timeout_seconds, begin)));
    if (bad_end(process, "assembler", settings, result) || toolchain_problem(process, result)) return;
    const PtxasLog log = parse_ptxas(process.output);
    result.advice.insert(result.advice.end(), log.advice.begin(), log.advice.end());

    std::vector<std::string> refused;
    for (const PtxasError& error : log.errors) {
      AssemblerFailure failure;
      failure.text = error.text;
      if (const PtxFunction* function = module.function_at(error.line)) {
        refused.push_back(function->name);
        failure.kernels.push_back(function->name);
        std::vector<PtxStatement> statements = function->directives;
        statements.insert(statements.end(), function->body.begin(), function->body.end());
        // A statement may span lines, and ptxas names any of them: the last one that begins at or above the line.
        int begin_line = 0;
        for (const PtxStatement& statement : statements) {
          if (statement.line <= error.line) begin_line = std::max(begin_line, statement.line);
        }
        // Several may stand on that line: the one that the target lacks.
        for (const PtxStatement& statement : statements) {
          if (statement.line != begin_line) continue;
          const InstructionFact* fact = match_instruction(statement.text);
          const bool lacking = fact != nullptr && !available(*fact, result.target);
          if (!failure.statement.empty() && !lacking) continue;
          failure.statement = statement.text;
          failure.locations = statement.locations;
          if (lacking) {
            failure.fact = fact;
            break;
          }
        }
        if (failure.locations.empty() && function->location.line) failure.locations = {function->location};
      }
      result.failures.push_back(failure);
    }
    for (const SharedOverflow& overflow : log.overflows) {
      result.overflows.push_back(overflow);
      refused.push_back(overflow.kernel);
    }
    for (const std::string& name : log.unresolved) {
      UnresolvedFunction unresolved{name, {}};
      for (const PtxFunction& function : module.functions) {
        const bool calls = std::any_of(function.body.begin(), function.body.end(), [&](const PtxStatement& s) {
          return s.text.find("call") != std::string::npos && s.text.find(name) != std::string::npos;
        });
        if (!calls) continue;
        refused.push_back(function.name);
        unresolved.kernels.push_back(function.name);
      }
      result.unresolved.push_back(unresolved);
    }
    if (process.succeeded() || log.fatal.empty()) {
      for (const auto& [name, usage] : log.kernels) {
        const auto kernel = std::find_if(result.kernels.begin(), result.kernels.end(),
                                         [&](const CompiledKernel& k) { return k.mangled == name; });
        if (kernel == result.kernels.end()) continue;
        kernel->usage = usage;
        kernel->assembled = std::find(refused.begin(), refused.end(), name) == refused.end() && !removed.count(name);
      }
    }
    if (process.succeeded()) break;
    result.state = CompileState::assembler_failed;
    if (refused.empty()) {
      if (log.errors.empty() && log.overflows.empty() && log.unresolved.empty()) {
        AssemblerFailure failure;
        failure.text = log.fatal.empty() ? "nvcc failed without a word" : log.fatal;
        for (const CompiledKernel& kernel : result.kernels) failure.kernels.push_back(kernel.mangled);
        result.failures.push_back(failure);
      }
      break;
    }
    std::vector<std::string> gone;
    ptx = without_functions(ptx, module, refused, &gone);
    const std::size_t before = removed.size();
    removed.insert(gone.begin(), gone.end());
    if (removed.size() == before) break;
  }
  // A refused device function takes its callers with it: they share its failure.
  const auto kernels_of = [&](std::vector<std::string>& names) {
    if (names.empty()) return;
    std::vector<std::string> with_callers;
    without_functions("", module, names, &with_callers);
    names.clear();
    for (const std::string& name : with_callers) {
      const PtxFunction* function = module.find(name);
      if (function != nullptr && function->is_entry) names.push_back(name);
    }
  };
  for (AssemblerFailure& failure : result.failures) kernels_of(failure.kernels);
  for (UnresolvedFunction& unresolved : result.unresolved) kernels_of(unresolved.kernels);
}

}  // namespace

CompileResult compile_for_target(const std::string& source, const Target& target, const CompileSettings& settings,
                                 int serial) {
  const Clock::time_point begin = Clock::now();
  CompileResult result;
  result.target = target;
  const std::string scratch = settings.scratch + "/" + std::to_string(serial);
  std::error_code error;
  fs::create_directory(scratch, error);
  if (error) {
    result.state = CompileState::toolchain_failed;
    result.sentence = "no directory for temporary files: " + error.message();
    return result;
  }
  const std::string ptx_path = scratch + "/source.ptx";
  std::vector<std::string> command = {settings.toolchain->nvcc, "-x", "cu", "-ptx", "-arch=" + target.compute(), "-o",
                                      ptx_path};
  // Source lines for the assembler's messages; debug information brings its own.
  if (!has_flag(settings.user_flags, "-G", "--device-debug")) command.push_back("-lineinfo");
  command.insert(command.end(), settings.front_end_flags.begin(), settings.front_end_flags.end());
  command.insert(command.end(), settings.user_flags.begin(), settings.user_flags.end());
  command.push_back(as_path(source));
  const ProcessResult process = run_process(command, process_options(settings, scratch, settings.timeout_seconds));
  const auto finish = [&] {
    result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    fs::remove_all(scratch, error);
    return result;
  };
  if (bad_end(process, "front end", settings, result) || toolchain_problem(process, result)) return finish();

  result.messages = parse_messages(process.output);
  const bool errors = std::any_of(result.messages.begin(), result.messages.end(),
                                  [](const Message& message) { return message.is_error(); });
  const std::string ptx = errors ? "" : read_file(ptx_path);
  if (ptx.empty()) {
    result.state = CompileState::front_end_failed;
    if (!errors) result.sentence = "nvcc failed without naming a line: " + trim_log(process.output);
    return finish();
  }
  // For newer targets nvcc runs the PTX through ptxas already here and fails with its errors; they come again below.
  const PtxModule module = parse_ptx(ptx);
  result.ptx_version = module.version;
  for (const PtxFunction& function : module.functions) {
    if (function.is_entry) result.kernels.push_back(summarise(function, module));
  }
  result.state = CompileState::ok;
  assemble(ptx, module, settings, scratch, begin, result);
  return finish();
}

CompileResult compile_host(const std::string& source, const Target& target, const CompileSettings& settings,
                           int serial) {
  const Clock::time_point begin = Clock::now();
  CompileResult result;
  result.target = target;
  const std::string scratch = settings.scratch + "/" + std::to_string(serial);
  std::error_code error;
  fs::create_directory(scratch, error);
  // PTX is carried along, no machine code is made.
  std::vector<std::string> command = {settings.toolchain->nvcc, "-x", "cu", "-c",
                                      "-gencode=arch=" + target.compute() + ",code=" + target.compute(), "-o",
                                      scratch + "/host.o"};
  command.insert(command.end(), settings.front_end_flags.begin(), settings.front_end_flags.end());
  command.insert(command.end(), settings.user_flags.begin(), settings.user_flags.end());
  command.push_back(as_path(source));
  const ProcessResult process = run_process(command, process_options(settings, scratch, settings.timeout_seconds));
  if (!bad_end(process, "host code", settings, result) && !toolchain_problem(process, result)) {
    result.messages = parse_messages(process.output);
    result.state = process.succeeded() ? CompileState::ok : CompileState::front_end_failed;
    const bool errors = std::any_of(result.messages.begin(), result.messages.end(),
                                    [](const Message& message) { return message.is_error(); });
    // ptxas speaking up about a device problem here is not the host's.
    if (!process.succeeded() && !errors) {
      result.state = process.output.find("ptxas") != std::string::npos ? CompileState::ok : result.state;
      result.sentence = trim_log(process.output);
    }
  }
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  fs::remove_all(scratch, error);
  return result;
}

}  // namespace triage::static_triage
