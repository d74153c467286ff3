// What preprocessor tests do to a kernel: let the wrong architectures in, or leave a kernel without its body.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

#include "verdict/static/diagnose.h"
#include "verdict/static/instruction_facts.h"
#include "verdict/static/replacements.h"

namespace triage::static_triage {
namespace {

bool tests_architecture(const Guard& guard) {
  if (guard.condition.find("__CUDA_ARCH") != std::string::npos) return true;
  return std::any_of(guard.earlier.begin(), guard.earlier.end(),
                     [](const std::string& text) { return text.find("__CUDA_ARCH") != std::string::npos; });
}

std::string guard_text(const Guard& guard) { return guard.condition == "1" ? "#else" : "#if " + guard.condition; }

// The targets that a test is judged by: those asked for, and every capability with the suffix that unlocks most.
std::vector<Target> judged_targets(const std::vector<Target>& targets) {
  std::vector<Target> result = targets;
  for (int sm : known_capabilities()) {
    if (sm == 101) continue;  // 110 under its old name
    const bool there = std::any_of(result.begin(), result.end(), [&](const Target& t) { return t.sm == sm; });
    if (!there) result.push_back({sm, sm >= 90 ? 'a' : '\0'});
  }
  return result;
}

// A branch that takes code of a function away on a target, and the assembly in it, if any.
struct DroppedCode {
  Guard guard;
  const AsmBlock* assembly = nullptr;
};

std::optional<DroppedCode> dropped_assembly(const SourceFile& file, const FunctionText& function,
                                            const EvaluationContext& context, const Constants& constants) {
  for (const AsmBlock& block : file.asm_blocks()) {
    if (block.line < function.body_first || block.line > function.body_last) continue;
    for (const Guard& guard : file.guards_at(block.line)) {
      const auto held = constants.holds(guard, context);
      if (tests_architecture(guard) && held && !*held) return DroppedCode{guard, &block};
    }
  }
  return std::nullopt;
}

std::optional<DroppedCode> dropped_code(const SourceFile& file, const FunctionText& function,
                                        const EvaluationContext& context, const Constants& constants) {
  if (auto dropped = dropped_assembly(file, function, context, constants)) return dropped;
  for (const Conditional& conditional : file.conditionals()) {
    if (conditional.if_line < function.body_first || conditional.end_line > function.body_last) continue;
    for (const Guard& branch : conditional.branches) {
      const auto held = constants.holds(branch, context);
      if (tests_architecture(branch) && held && !*held) return DroppedCode{branch, nullptr};
    }
  }
  for (const FunctionText& other : file.functions()) {  // in a function that it calls
    if (&other == &function || other.is_kernel || !file.calls(function, other.name)) continue;
    if (auto dropped = dropped_assembly(file, other, context, constants)) return dropped;
  }
  return std::nullopt;
}

// The matrix instruction of a piece of assembly.
const InstructionFact* matrix_fact(const AsmBlock* block) {
  if (block == nullptr) return nullptr;
  for (const std::string& statement : block->statements) {
    const InstructionFact* fact = match_instruction(statement);
    if (fact != nullptr && multiplies_matrices(statement)) return fact;
  }
  return nullptr;
}

bool has_body_text(const SourceFile& file, const FunctionText& function) {
  const std::string body = file.code().substr(function.body_begin, function.body_end - function.body_begin);
  return body.find_first_not_of(" \t\r\n;") != std::string::npos;
}

const InstructionFact* matrix_fact(const CompiledKernel& kernel) {
  for (const InstructionUse& use : kernel.uses) {
    if (multiplies_matrices(use.statement)) return use.fact;
  }
  return nullptr;
}

}  // namespace

std::vector<Cause> diagnose_guards(const std::vector<Target>& targets, SourceSet& sources) {
  std::vector<Cause> causes;
  std::set<std::string> seen;
  for (const SourceFile* file : sources.project_files()) {
    for (const AsmBlock& block : file->asm_blocks()) {
      const std::vector<Guard> guards = file->guards_at(block.line);
      const auto guard = std::find_if(guards.rbegin(), guards.rend(), tests_architecture);
      if (guard == guards.rend()) continue;
      for (std::size_t i = 0; i < block.statements.size(); ++i) {
        const InstructionFact* fact = match_instruction(block.statements[i]);
        if (fact == nullptr) continue;
        std::vector<std::string> wrong;
        for (const Target& target : judged_targets(targets)) {
          if (available(*fact, target)) continue;
          EvaluationContext context;
          context.target = target;
          const bool all = std::all_of(guards.begin(), guards.end(), [&](const Guard& g) {
            const auto held = sources.constants().holds(g, context);
            return held && *held;
          });
          if (all) wrong.push_back(target.name());
        }
        Cause cause;
        cause.key = fmt::format("wide-guard|{}|{}|{}", fact->id, sources.shown(file->path()), guard->line);
        if (wrong.empty() || !seen.insert(cause.key).second) continue;
        cause.kind = CauseKind::wide_guard;
        cause.severity = Severity::warns;
        cause.feature = fact->id;
        cause.cell = fact->name;
        cause.where = {sources.shown(file->path()), guard->line};
        cause.source_line = file->line(guard->line);
        cause.found = fmt::format("`{}` lets {} in to {} (line {})", guard_text(*guard), join(wrong), fact->name,
                                  block.lines[i]);
        cause.why = fmt::format("it exists on {}", availability_text(*fact));
        cause.fix = fmt::format("narrow the test to `#if {}`", exact_guard(*fact));
        cause.reference = reference_text(*fact);
        cause.targets = wrong;
        causes.push_back(cause);
      }
    }
  }
  return causes;
}

std::vector<Cause> diagnose_empty_bodies(const std::vector<CompileResult>& compiled, SourceSet& sources) {
  std::vector<Cause> causes;
  for (const CompileResult& result : compiled) {
    for (const CompiledKernel& kernel : result.kernels) {
      if (!kernel.assembled) continue;
      const SourceFile* file = sources.get(kernel.location.file);
      const std::string base = kernel.name.substr(0, kernel.name.find('<'));
      const std::size_t colon = base.rfind("::");
      const FunctionText* function =
          file ? file->find_kernel(colon == std::string::npos ? base : base.substr(colon + 2)) : nullptr;

      // The same kernel where it holds most.
      const CompiledKernel* fullest = nullptr;
      std::string fullest_target;
      for (const CompileResult& other : compiled) {
        for (const CompiledKernel& candidate : other.kernels) {
          if (candidate.name != kernel.name || candidate.only_traps) continue;
          if (fullest != nullptr && candidate.work <= fullest->work) continue;
          fullest = &candidate;
          fullest_target = other.target.name();
        }
      }
      const bool fuller_elsewhere = fullest != nullptr && fullest->work > 0;
      const bool empty = kernel.work == 0 && (fuller_elsewhere || (function != nullptr && has_body_text(*file, *function)));
      EvaluationContext context;
      context.target = result.target;
      const auto dropped = function ? dropped_code(*file, *function, context, sources.constants()) : std::nullopt;
      const InstructionFact* lost = fullest ? matrix_fact(*fullest) : nullptr;
      const bool lost_here = lost == nullptr && dropped && matrix_fact(dropped->assembly) != nullptr;
      if (lost_here) lost = matrix_fact(dropped->assembly);
      // Matrix instructions elsewhere, and here neither one nor a multiplication in its place.
      const bool without_multiply = !empty && lost != nullptr && !kernel.multiplies;
      if (!empty && !kernel.only_traps && !without_multiply) continue;

      Cause cause;
      cause.kind = CauseKind::empty_body;
      cause.key = fmt::format("empty-body|{}|{}", kernel.name, empty ? 0 : kernel.only_traps ? 1 : 2);
      cause.targets = {result.target.name()};
      cause.kernels = {kernel.name};
      cause.where = {sources.shown(kernel.location.file), function ? function->line : kernel.location.line};
      cause.cell = empty ? "empty body" : kernel.only_traps ? "only a trap" : "matrix multiply guarded out";
      cause.found = empty               ? fmt::format("`{}` compiles to an empty body", kernel.name)
                    : kernel.only_traps ? fmt::format("`{}` does nothing but trap", kernel.name)
                                        : fmt::format("`{}` holds no multiplication", kernel.name);
      if (fuller_elsewhere) {
        cause.found += lost_here          ? fmt::format("; the source means it to use {}", lost->name)
                       : without_multiply ? fmt::format("; for {} it has {}", fullest_target, lost->name)
                                        : fmt::format("; for {} it has {} instructions", fullest_target, fullest->work);
      }
      cause.why = "it launches, reports no error and leaves its output as it was";
      if (kernel.only_traps) cause.why = "every launch ends in an error";
      if (without_multiply) cause.why = "it launches, reports no error and its output lacks the products";
      cause.fix = "give this architecture a branch of its own, or an #error that says so at compile time";
      if (dropped) {
        cause.where.line = dropped->guard.line;
        cause.found += fmt::format("; `{}` (line {}) leaves this architecture out", guard_text(dropped->guard),
                                   dropped->guard.line);
      } else if (empty && !fuller_elsewhere) {
        cause.why = "the compiler found nothing in it that can be seen from outside: no store, no atomic, no assembly";
        cause.fix = "store the result, or look for a test that leaves the body out";
      }
      if (file != nullptr) cause.source_line = file->line(cause.where.line);
      causes.push_back(cause);
    }
  }
  return causes;
}

}  // namespace triage::static_triage
