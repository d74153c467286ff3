// Causes of what ptxas refused, and of instructions that the compiler did not get to.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "verdict/static/diagnose.h"
#include "verdict/static/instruction_facts.h"
#include "verdict/static/replacements.h"

namespace triage::static_triage {
namespace {

// The innermost place in one of the project's own files, else the innermost place.
std::size_t best_location(const std::vector<SourceLocation>& locations, SourceSet& sources) {
  for (std::size_t i = 0; i < locations.size(); ++i) {
    for (const SourceFile* file : sources.project_files()) {
      if (sources.shown(locations[i].file) == sources.shown(file->path())) return i;
    }
  }
  return 0;
}

// The compiler names any line of an assembly statement, an operand's say: the line of the instruction itself.
int assembly_line(const SourceFile& file, int line, const InstructionFact& fact) {
  for (const AsmBlock& block : file.asm_blocks()) {
    if (line < block.line || line > block.last_line) continue;
    for (std::size_t i = 0; i < block.statements.size(); ++i) {
      const InstructionFact* row = match_instruction(block.statements[i]);
      if (row != nullptr && std::string(row->id) == fact.id) return block.lines[i];
    }
    return block.line;
  }
  return line;
}

std::string one_line(std::string text) {
  for (char& c : text) c = c == '\n' || c == '\t' ? ' ' : c;
  text = trim(text);
  return text.size() > 90 ? text.substr(0, 87) + "..." : text;
}

// "8.6" before "9.0"
bool older(const std::string& a, const std::string& b) {
  return !a.empty() && !b.empty() && std::atof(a.c_str()) + 1e-6 < std::atof(b.c_str());
}

// The branches around the statement - in its own function or at the calls that lead to it - that test __CUDA_ARCH__.
const Guard* architecture_guard(const std::vector<SourceLocation>& locations, SourceSet& sources,
                                std::vector<Guard>& storage, std::string* file_name) {
  for (const SourceLocation& location : locations) {
    const SourceFile* file = sources.get(location.file);
    if (file == nullptr) continue;
    storage = file->guards_at(location.line);
    for (auto guard = storage.rbegin(); guard != storage.rend(); ++guard) {
      std::string all = guard->condition;
      for (const std::string& earlier : guard->earlier) all += " " + earlier;
      if (all.find("__CUDA_ARCH") == std::string::npos) continue;
      *file_name = sources.shown(location.file);
      return &*guard;
    }
  }
  return nullptr;
}

std::vector<std::string> kernel_names(const std::vector<std::string>& mangled, const CompileResult& compiled) {
  std::vector<std::string> names;
  for (const std::string& name : mangled) {
    const auto kernel = std::find_if(compiled.kernels.begin(), compiled.kernels.end(),
                                     [&](const CompiledKernel& k) { return k.mangled == name; });
    if (kernel != compiled.kernels.end()) names.push_back(kernel->name);
  }
  return names;
}

// Where one of the kernels calls a function by this name; line 0: not in its own text.
std::pair<const SourceFile*, int> find_call(const std::string& name, const std::vector<std::string>& kernels,
                                            SourceSet& sources) {
  const std::size_t colon = name.rfind("::");
  const std::string word = colon == std::string::npos ? name : name.substr(colon + 2);
  for (const SourceFile* file : sources.project_files()) {
    for (const std::string& kernel : kernels) {
      const FunctionText* function = file->find_kernel(kernel.substr(0, kernel.find('<')));
      const std::size_t at = function ? find_word(file->code(), word, function->body_begin) : std::string::npos;
      if (function != nullptr && at < function->body_end) return {file, file->line_of(at)};
    }
  }
  return {nullptr, 0};
}

Cause shared_cause(const SharedOverflow& overflow, const CompileResult& compiled) {
  Cause cause;
  cause.kind = CauseKind::shared_memory;
  cause.key = fmt::format("shared-memory|{}|{}", demangle(overflow.kernel), overflow.limit);
  cause.cell = fmt::format("shared memory {} of {} KB", kilobytes(overflow.bytes), kilobytes(overflow.limit));
  cause.kernels = kernel_names({overflow.kernel}, compiled);
  for (const CompiledKernel& kernel : compiled.kernels) {
    if (kernel.mangled == overflow.kernel) cause.where = kernel.location;
  }
  cause.found = fmt::format("`{}` declares {} bytes of static __shared__ memory", demangle(overflow.kernel),
                            overflow.bytes);
  cause.why = fmt::format("ptxas allows {} KB of static shared memory{}", kilobytes(overflow.limit),
                          overflow.limit > kDefaultSharedBytes ? "" : " (targets with suffix a: up to the hardware's limit)");
  const Limits* limits = find_limits(compiled.target.sm);
  const long most = limits ? limits->shared_block_kb * 1024L : 0;
  if (overflow.bytes <= most && compiled.target.sm >= 90 && overflow.limit == kDefaultSharedBytes) {
    // Seen on an H100: such a kernel, compiled for 90a, launches without any opt-in.
    cause.fix_by_target = {{compiled.target.name(),
                            fmt::format("the target {}a, which allows static shared memory up to {} KB; or dynamic shared "
                                        "memory with cudaFuncSetAttribute",
                                        compiled.target.sm, limits->shared_block_kb)}};
    cause.unlockable = true;
    cause.key += "|needs-target";
  } else if (overflow.bytes <= most) {
    cause.fix_by_target = {{compiled.target.name(),
                            fmt::format("dynamic shared memory: extern __shared__, the size as the launch's third "
                                        "argument, and cudaFuncSetAttribute(kernel, "
                                        "cudaFuncAttributeMaxDynamicSharedMemorySize, {}), which may reach {} KB",
                                        overflow.bytes, limits->shared_block_kb)}};
  } else {
    cause.fix_by_target = {{compiled.target.name(),
                            fmt::format("less of it: even as dynamic shared memory a block has at most {} KB; smaller "
                                        "tiles or fewer pipeline stages",
                                        limits ? std::to_string(limits->shared_block_kb) : "its architecture's")}};
  }
  return cause;
}

}  // namespace

Cause instruction_cause(const InstructionFact& fact, const std::string& statement, const Target& target,
                        const std::vector<SourceLocation>& locations, SourceSet& sources,
                        const std::string& ptx_version) {
  Cause cause;
  cause.kind = CauseKind::instruction;
  cause.feature = fact.id;
  cause.cell = fact.name;
  cause.targets = {target.name()};
  cause.reference = reference_text(fact);
  cause.key = std::string("instruction|") + fact.id;
  if (!locations.empty()) {
    const std::size_t at = best_location(locations, sources);
    cause.where = {sources.shown(locations[at].file), locations[at].line};
    for (std::size_t i = at + 1; i < locations.size(); ++i) {
      cause.via.push_back({sources.shown(locations[i].file), locations[i].line});
    }
    if (const SourceFile* file = sources.get(locations[at].file)) {
      cause.where.line = assembly_line(*file, locations[at].line, fact);
      cause.source_line = file->line(cause.where.line);
    }
  }
  // Registers say nothing: the opcode, unless it is an operand that the target lacks.
  const std::string opcode = opcode_of(statement.empty() ? fact.example : statement);
  cause.found = fmt::format("`{}`: {}", *fact.operand ? one_line(statement) : opcode, fact.meaning);
  const std::string unlock = unlocking_target(fact, target.sm);
  if (older(ptx_version, fact.introduced)) {
    cause.why = fmt::format("this nvcc writes PTX ISA {}, and the instruction came with {}", ptx_version, fact.introduced);
    cause.fix = "use a newer CUDA toolkit";
    return cause;
  }
  cause.why = fmt::format("it exists on {}", availability_text(fact));
  if (!unlock.empty()) {
    cause.why += fmt::format("; {} is the portable subset of that architecture and leaves it out", target.name());
    cause.fix_by_target = {{target.name(), replacement(fact, target)}};
    cause.unlockable = true;
    cause.key = std::string("needs-target|") + fact.id;
    return cause;
  }
  cause.fix_by_target = {{target.name(), replacement(fact, target)}};
  std::vector<Guard> storage;
  std::string guard_file;
  const Guard* guard = architecture_guard(locations, sources, storage, &guard_file);
  if (guard != nullptr) {
    cause.kind = CauseKind::wide_guard;
    cause.key = fmt::format("wide-guard|{}|{}|{}", fact.id, guard_file, guard->line);
    cause.found += fmt::format(", behind `{}` (line {})",
                               guard->condition == "1" ? "#else" : "#if " + guard->condition, guard->line);
    cause.fix = fmt::format("narrow the test to `#if {}`", exact_guard(fact));
    return cause;
  }
  cause.fix = fmt::format("keep it behind `#if {}`", exact_guard(fact));
  return cause;
}

std::vector<Cause> diagnose_assembly(const CompileResult& compiled, SourceSet& sources) {
  std::vector<Cause> causes;
  for (const AssemblerFailure& failure : compiled.failures) {
    Cause cause;
    if (failure.fact != nullptr) {
      cause = instruction_cause(*failure.fact, failure.statement, compiled.target, failure.locations, sources,
                                compiled.ptx_version);
    } else {
      cause.cell = "assembler error";
      cause.key = "ptxas|" + failure.text;
      if (!failure.locations.empty()) {
        const std::size_t at = best_location(failure.locations, sources);
        cause.where = {sources.shown(failure.locations[at].file), failure.locations[at].line};
        if (const SourceFile* file = sources.get(failure.locations[at].file)) {
          cause.source_line = file->line(failure.locations[at].line);
        }
      }
      cause.found = failure.statement.empty() ? failure.text : fmt::format("`{}`", one_line(failure.statement));
      cause.why = "ptxas says: " + failure.text;
      cause.fix = "correct the inline assembly (PTX ISA, section 9.7), or guard it for the architectures that have it";
    }
    cause.kernels = kernel_names(failure.kernels, compiled);
    cause.targets = {compiled.target.name()};
    causes.push_back(cause);
  }
  // What ptxas did not name because it stopped early: the same table over the PTX of the kernels it refused.
  for (const CompiledKernel& kernel : compiled.kernels) {
    if (kernel.assembled || compiled.state != CompileState::assembler_failed) continue;
    for (const InstructionUse& use : kernel.uses) {
      if (available(*use.fact, compiled.target)) continue;
      Cause cause = instruction_cause(*use.fact, use.statement, compiled.target, use.locations, sources,
                                      compiled.ptx_version);
      cause.kernels = {kernel.name};
      causes.push_back(cause);
    }
  }
  for (const SharedOverflow& overflow : compiled.overflows) {
    Cause cause = shared_cause(overflow, compiled);
    cause.targets = {compiled.target.name()};
    if (const SourceFile* file = sources.get(cause.where.file)) cause.source_line = file->line(cause.where.line);
    cause.where.file = sources.shown(cause.where.file);
    causes.push_back(cause);
  }
  for (const UnresolvedFunction& unresolved : compiled.unresolved) {
    const std::string& name = unresolved.name;
    Cause cause;
    cause.kernels = kernel_names(unresolved.kernels, compiled);
    cause.kind = CauseKind::undefined_function;
    cause.targets = {compiled.target.name()};
    cause.key = "unresolved|" + name;
    if (const auto [file, line] = find_call(demangle(name), cause.kernels, sources); file != nullptr) {
      cause.where = {sources.shown(file->path()), line};
      cause.source_line = file->line(line);
    }
    if (const InstructionFact* fact = match_name(name)) {
      cause.kind = CauseKind::feature_name;
      cause.feature = fact->id;
      cause.cell = fact->name;
      cause.found = fmt::format("a cuda::ptx wrapper of {}: {}", fact->name, fact->meaning);
      cause.why = fmt::format("the header declares it without a body below that architecture: it exists on {}",
                              availability_text(*fact));
      cause.fix_by_target = {{compiled.target.name(), replacement(*fact, compiled.target)}};
      cause.fix = fmt::format("keep it behind `#if {}`", exact_guard(*fact));
      cause.reference = reference_text(*fact);
    } else {
      cause.cell = fmt::format("undefined `{}`", demangle(name));
      cause.found = fmt::format("the device function `{}` is called, and this file does not define it", demangle(name));
      cause.why = "without relocatable device code every device function must be defined where it is used";
      cause.fix = "define it in this file or a header, or compile with -- -rdc=true and link the files together";
    }
    causes.push_back(cause);
  }
  return causes;
}

std::vector<Cause> diagnose_unreached(const CompileResult& compiled, SourceSet& sources) {
  std::vector<Cause> causes;
  if (compiled.state != CompileState::front_end_failed) return causes;
  EvaluationContext context;
  context.target = compiled.target;
  for (const SourceFile* file : sources.project_files()) {
    for (const AsmBlock& block : file->asm_blocks()) {
      bool excluded = false;
      for (const Guard& guard : file->guards_at(block.line)) {
        const auto held = sources.constants().holds(guard, context);
        excluded = excluded || (held && !*held);
      }
      if (excluded) continue;
      for (std::size_t i = 0; i < block.statements.size(); ++i) {
        const InstructionFact* fact = match_instruction(block.statements[i]);
        if (fact == nullptr || available(*fact, compiled.target)) continue;
        Cause cause = instruction_cause(*fact, block.statements[i], compiled.target, {{file->path(), block.lines[i]}},
                                        sources, compiled.ptx_version);
        cause.unreached = true;
        causes.push_back(cause);
      }
    }
  }
  return causes;
}

}  // namespace triage::static_triage
