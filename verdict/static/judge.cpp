#include "verdict/static/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "verdict/static/occupancy.h"

namespace triage::static_triage {
namespace {

bool is_architectures_own(CauseKind kind) {
  return kind == CauseKind::instruction || kind == CauseKind::wide_guard || kind == CauseKind::feature_name;
}

bool gave_answer(const CompileResult& result) {
  return result.state == CompileState::ok || result.state == CompileState::front_end_failed ||
         result.state == CompileState::assembler_failed;
}

template <typename T>
void add_unique(std::vector<T>& list, const T& value) {
  if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
}

// "flash::tile<64>" -> "tile"
std::string base_name(const std::string& kernel) {
  const std::string without = kernel.substr(0, kernel.find('<'));
  const std::size_t colon = without.rfind("::");
  return colon == std::string::npos ? without : without.substr(colon + 2);
}

// One cause for what is the same on several targets or at several lines.
void merge(std::vector<Cause>& causes, Cause cause) {
  for (Cause& known : causes) {
    if (known.key != cause.key || known.unreached != cause.unreached) continue;
    if (known.severity != cause.severity) {
      // The warning about a test that would let architectures in, where one of them is in fact in the way.
      if (known.severity == Severity::warns) {
        cause.why += fmt::format("; the test lets {} in", join(known.targets));
        known = std::move(cause);
      }
      return;
    }
    for (const std::string& target : cause.targets) add_unique(known.targets, target);
    for (const std::string& kernel : cause.kernels) add_unique(known.kernels, kernel);
    for (const auto& fix : cause.fix_by_target) add_unique(known.fix_by_target, fix);
    if (!(cause.where == known.where) && known.also.size() < 12) add_unique(known.also, cause.where);
    return;
  }
  causes.push_back(std::move(cause));
}

// "on 80, 86 and 89: cp.async ...; on 120a: ...; keep it behind ..."
void finish_fix(Cause& cause) {
  if (cause.fix_by_target.empty()) return;
  std::vector<std::pair<std::string, std::vector<std::string>>> groups;
  for (const auto& [target, text] : cause.fix_by_target) {
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == text; });
    if (group == groups.end()) group = groups.insert(groups.end(), {text, {}});
    add_unique(group->second, target);
  }
  std::string fix;
  for (const auto& [text, targets] : groups) fix += fmt::format("{}on {}: {}", fix.empty() ? "" : "; ", join(targets), text);
  cause.fix = cause.fix.empty() ? fix : fix + "; " + cause.fix;
}

Cause tool_cause(const CompileResult& result) {
  Cause cause;
  cause.kind = result.state == CompileState::timed_out ? CauseKind::timeout
               : result.state == CompileState::crashed ? CauseKind::crash
                                                       : CauseKind::toolchain;
  cause.targets = {result.target.name()};
  cause.key = fmt::format("{}|{}", kind_name(cause.kind), result.sentence);
  cause.cell = result.state == CompileState::timed_out ? "timed out"
               : result.state == CompileState::crashed ? "compiler crashed"
                                                       : "broken toolchain";
  cause.found = result.sentence;
  cause.why = "so nothing can be said of this architecture";
  cause.fix = result.state == CompileState::timed_out
                  ? "give it more time with --timeout, or look for the construct that the compiler does not finish"
              : result.state == CompileState::crashed ? "try another version of the toolkit, and report the file to NVIDIA"
                                                      : "repair the toolkit's installation";
  return cause;
}

// The words that the matrix shows for the failing causes of a target (and of one kernel).
Cell failing_cell(const std::vector<Cause>& causes, const std::string& target, const std::string& kernel) {
  Cell cell;
  cell.state = CellState::wont_compile;
  std::vector<std::string> words;
  bool all_unlockable = true, all_shared = true, all_empty = true;
  for (const Cause& cause : causes) {
    const bool here = std::find(cause.targets.begin(), cause.targets.end(), target) != cause.targets.end();
    const bool of_kernel = kernel.empty() || cause.kernels.empty() ||
                           std::find(cause.kernels.begin(), cause.kernels.end(), kernel) != cause.kernels.end();
    if (!here || !of_kernel || (cause.host_only && !kernel.empty()) || cause.severity != Severity::fails || cause.unreached) continue;
    add_unique(words, cause.cell);
    all_unlockable = all_unlockable && cause.unlockable;
    all_shared = all_shared && (cause.kind == CauseKind::shared_memory || cause.kind == CauseKind::launch_limits);
    all_empty = all_empty && cause.kind == CauseKind::empty_body;
  }
  if (words.empty()) return cell;
  if (all_shared) cell.state = CellState::too_big;
  if (all_unlockable) cell.state = CellState::needs_target;
  if (all_empty) cell.state = CellState::empty_body;
  if (words.size() > 3) words = {words[0], words[1], fmt::format("{} more", words.size() - 2)};
  cell.detail = join(words, ", ");
  return cell;
}

int rank(const Cell& cell) {  // the worst decides for the file
  switch (cell.state) {
    case CellState::no_answer: return 7;
    case CellState::wont_compile: return 6;
    case CellState::needs_target: return 5;
    case CellState::too_big: return 4;
    case CellState::empty_body: return 3;
    case CellState::spills: return 2;
    case CellState::compiles: return 1;
    case CellState::unknown_target:
    case CellState::not_instantiated: return 0;
  }
  return 0;
}

// Whether a launch of the source can succeed: block size, registers, shared memory.
void check_launch(const LaunchFacts& launch, const KernelReportRow& row, const Target& target,
                  const KernelOnTarget& measured, const SourceFile& source, std::vector<Cause>& causes) {
  const Limits* limits = find_limits(target.sm);
  Cause cause;
  cause.where = {row.where.file, launch.line};
  cause.source_line = source.line(launch.line);
  cause.kernels = {row.name};
  cause.targets = {target.name()};
  const long shared = measured.static_shared + launch.dynamic_shared;
  if (limits != nullptr && launch.dynamic_shared > 0 && shared > limits->shared_block_kb * 1024L) {
    cause.kind = CauseKind::shared_memory;
    cause.cell = fmt::format("shared memory {} of {} KB", kilobytes(shared), limits->shared_block_kb);
    cause.key = fmt::format("launch-shared|{}|{}", row.name, limits->shared_block_kb);
    cause.found = fmt::format("`{}` is launched with {} KB of shared memory", row.name, kilobytes(shared));
    if (launch.shared_arithmetic.find(' ') != std::string::npos) cause.found += ": " + launch.shared_arithmetic;
    if (measured.static_shared > 0) {
      cause.found += fmt::format(", and {} bytes of static shared memory", measured.static_shared);
    }
    cause.why = fmt::format("a block may have {} KB there: the kernel compiles, and its launch fails",
                            limits->shared_block_kb);
    cause.fix = "smaller tiles or fewer pipeline stages there, chosen from cudaDevAttrMaxSharedMemoryPerBlockOptin at "
                "run time";
    merge(causes, cause);
  } else if (launch.dynamic_shared > kDefaultSharedBytes && !launch.opts_in) {
    cause.kind = CauseKind::shared_memory;
    cause.severity = Severity::warns;
    cause.key = fmt::format("opt-in|{}", row.name);
    cause.cell = "shared memory without opt-in";
    cause.found = fmt::format("`{}` is launched with {} KB of dynamic shared memory", row.name,
                              kilobytes(launch.dynamic_shared));
    cause.why = "past 48 KB a launch fails unless cudaFuncSetAttribute allowed it before, and this file does not call it";
    cause.fix = fmt::format("cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, {})",
                            launch.dynamic_shared);
    merge(causes, cause);
  }
  const bool too_many = launch.threads > kMaxThreadsPerBlock;
  if (too_many || (launch.threads > 0 && block_registers(measured.registers, launch.threads) > kRegistersPerSm)) {
    cause.kind = CauseKind::launch_limits;
    cause.severity = Severity::fails;
    cause.key = fmt::format("launch-limits|{}|{}", row.name, measured.registers);
    cause.cell = too_many ? fmt::format("{} threads of {}", launch.threads, kMaxThreadsPerBlock)
                          : fmt::format("{} registers of {}", block_registers(measured.registers, launch.threads),
                                        kRegistersPerSm);
    cause.found = too_many ? fmt::format("`{}` is launched with {} threads a block", row.name, launch.threads)
                           : fmt::format("`{}` uses {} registers a thread and is launched with {} threads a block",
                                         row.name, measured.registers, launch.threads);
    cause.why = too_many ? "a block may have 1024 threads" : "a block may have 65536 registers: its launch fails";
    cause.fix = fmt::format("smaller blocks, or __launch_bounds__({}) so that the compiler keeps within the limit",
                            std::min(launch.threads, kMaxThreadsPerBlock));
    merge(causes, cause);
  }
}

void fill_measurements(KernelOnTarget& on, const CompiledKernel& kernel, const LaunchFacts& launch,
                       const Target& target) {
  on.measured = true;
  on.registers = kernel.usage.registers;
  on.static_shared = kernel.usage.shared_bytes;
  on.stack = kernel.usage.stack_bytes;
  on.spill_stores = kernel.usage.spill_store_bytes;
  on.spill_loads = kernel.usage.spill_load_bytes;
  on.dynamic_shared = launch.dynamic_shared;
  on.dynamic_known = launch.shared_known;
  const int threads = launch.threads > 0 ? launch.threads : kernel.max_threads > 0 ? kernel.max_threads : 256;
  on.occupancy = occupancy(target, threads, on.registers, on.static_shared + on.dynamic_shared);
  if (on.occupancy) on.occupancy->assumed = launch.threads == 0 && kernel.max_threads == 0;
}

// Every kernel that any target made, and those of the source that none did.
std::vector<KernelReportRow> list_kernels(const FileCompiles& compiles, SourceSet& sources, std::string* note) {
  std::vector<KernelReportRow> rows;
  for (const CompileResult& result : compiles.targets) {
    for (const CompiledKernel& kernel : result.kernels) {
      const bool known = std::any_of(rows.begin(), rows.end(), [&](const auto& row) { return row.name == kernel.name; });
      if (known) continue;
      KernelReportRow row;
      row.name = kernel.name;
      row.where = {sources.shown(kernel.location.file), kernel.location.line};
      if (const SourceFile* file = sources.get(kernel.location.file)) {
        if (const FunctionText* function = file->find_kernel(base_name(kernel.name))) row.where.line = function->line;
      }
      rows.push_back(row);
    }
  }
  std::vector<std::string> missing;
  for (const FunctionText& function : sources.main().functions()) {
    const bool there = std::any_of(rows.begin(), rows.end(),
                                   [&](const auto& row) { return base_name(row.name) == function.name; });
    if (!function.is_kernel || there) continue;
    KernelReportRow row;
    row.name = function.name;
    row.where = {sources.shown(sources.main().path()), function.line};
    rows.push_back(row);
    missing.push_back("`" + function.name + "`");
  }
  const bool compiled = std::any_of(compiles.targets.begin(), compiles.targets.end(), [](const CompileResult& r) {
    return r.state == CompileState::ok || r.state == CompileState::assembler_failed;
  });
  if (compiled && !missing.empty()) {
    *note = fmt::format("{} {} in the source, but no target compiles {}: a template that nothing instantiates, or code "
                        "behind a false #if. Instantiate it (template __global__ void name<...>(...);) to have it checked.",
                        join(missing), missing.size() == 1 ? "stands" : "stand", missing.size() == 1 ? "it" : "them");
  }
  std::stable_sort(rows.begin(), rows.end(), [&](const KernelReportRow& a, const KernelReportRow& b) {
    return a.where.file == b.where.file && a.where.line < b.where.line;
  });
  return rows;
}

void add_spill_causes(FileVerdict& verdict, const std::vector<Target>& targets) {
  for (const KernelReportRow& row : verdict.kernels) {
    std::vector<std::string> where, names;
    for (std::size_t t = 0; t < targets.size(); ++t) {
      const KernelOnTarget& on = row.targets[t];
      if (!on.measured || on.spill_stores + on.spill_loads == 0) continue;
      where.push_back(fmt::format("{} bytes for {} ({} registers)", on.spill_stores + on.spill_loads, targets[t].name(),
                                  on.registers));
      names.push_back(targets[t].name());
    }
    if (names.empty()) continue;
    Cause cause;
    cause.kind = CauseKind::spills;
    cause.severity = Severity::informs;
    cause.where = row.where;
    cause.cell = "spills";
    cause.kernels = {row.name};
    cause.targets = names;
    cause.found = fmt::format("`{}` spills registers to memory: {}", row.name, join(where));
    cause.why = "values that do not fit into registers travel through local memory: slower, not wrong";
    cause.fix = "fewer values a thread (smaller tiles, less unrolling), or more registers: fewer threads or fewer blocks in "
                "__launch_bounds__";
    cause.key = "spills|" + row.name;
    verdict.causes.push_back(cause);
  }
}

}  // namespace

FileVerdict judge_file(const std::string& path, const FileCompiles& compiles, SourceSet& sources,
                       const std::vector<KernelReport>& ours) {
  FileVerdict verdict;
  verdict.path = path;
  std::vector<Target> targets;
  for (const CompileResult& result : compiles.targets) {
    targets.push_back(result.target);
    verdict.seconds += result.seconds;
  }

  // Causes, target by target.
  std::vector<Cause>& causes = verdict.causes;
  for (const CompileResult& result : compiles.targets) {
    if (result.state == CompileState::unknown_target) continue;
    if (!gave_answer(result)) {
      merge(causes, tool_cause(result));
      continue;
    }
    if (result.state == CompileState::front_end_failed && !result.sentence.empty()) {
      Cause cause = tool_cause(result);
      cause.kind = CauseKind::compile_error;
      cause.cell = "compile error";
      merge(causes, cause);
    }
    for (Cause& cause : diagnose_messages(result, sources, false)) merge(causes, std::move(cause));
    for (Cause& cause : diagnose_assembly(result, sources)) merge(causes, std::move(cause));
    for (Cause& cause : diagnose_unreached(result, sources)) merge(causes, std::move(cause));
  }
  for (const CompileResult& host : compiles.host) {
    verdict.seconds += host.seconds;
    std::vector<Cause> found = gave_answer(host) ? diagnose_messages(host, sources, true) : std::vector{tool_cause(host)};
    if (found.empty() && host.state == CompileState::front_end_failed) {
      found.push_back(tool_cause(host));
      found.back().kind = CauseKind::host_code;
      found.back().cell = "host code";
    }
    for (Cause& cause : found) {
      cause.targets.clear();
      cause.host_only = true;
      for (const CompileResult& result : compiles.targets) {
        if (gave_answer(result)) cause.targets.push_back(result.target.name());
      }
      // What the device side said already is not said again.
      const bool said = std::any_of(causes.begin(), causes.end(), [&](const Cause& known) {
        return known.where == cause.where && known.kind == cause.kind;
      });
      if (!said) merge(causes, std::move(cause));
    }
  }
  for (Cause& cause : diagnose_empty_bodies(compiles.targets, sources)) merge(causes, std::move(cause));
  for (Cause& cause : diagnose_guards(targets, sources)) merge(causes, std::move(cause));

  // Kernels, their numbers, and what their launches ask for.
  std::string note;
  verdict.kernels = list_kernels(compiles, sources, &note);
  if (!note.empty()) verdict.notes.push_back(note);
  if (sources.main().truncated()) {
    verdict.notes.push_back("the file is larger than 16 MB: what stands behind that only the compiler has seen");
  }
  for (KernelReportRow& row : verdict.kernels) {
    const LaunchFacts launch = find_launches(sources.main(), sources.constants(), base_name(row.name));
    for (const CompileResult& result : compiles.targets) {
      KernelOnTarget on;
      for (const CompiledKernel& kernel : result.kernels) {
        if (kernel.name != row.name || !kernel.assembled) continue;
        fill_measurements(on, kernel, launch, result.target);
        check_launch(launch, row, result.target, on, sources.main(), causes);
      }
      row.targets.push_back(on);
    }
  }

  // Cells.
  verdict.cells.resize(targets.size());
  for (std::size_t t = 0; t < targets.size(); ++t) {
    const CompileResult& result = compiles.targets[t];
    const std::string target = targets[t].name();
    Cell& file_cell = verdict.cells[t];
    if (result.state == CompileState::unknown_target) {
      file_cell.state = CellState::unknown_target;
    } else if (!gave_answer(result)) {
      file_cell = {CellState::no_answer, tool_cause(result).cell, 0};
    } else if (result.state == CompileState::front_end_failed) {
      file_cell = failing_cell(causes, target, "");
    } else {
      file_cell.state = CellState::compiles;
    }
    for (KernelReportRow& row : verdict.kernels) {
      KernelOnTarget& on = row.targets[t];
      const bool there = std::any_of(result.kernels.begin(), result.kernels.end(),
                                     [&](const CompiledKernel& k) { return k.name == row.name; });
      if (file_cell.state == CellState::unknown_target || file_cell.state == CellState::no_answer ||
          result.state == CompileState::front_end_failed) {
        on.cell = file_cell;
      } else if (!there) {
        on.cell = {CellState::not_instantiated, "not compiled for this target", 0};
      } else {
        const Cell failing = failing_cell(causes, target, row.name);
        if (!failing.detail.empty() || !on.measured) {
          on.cell = failing;
        } else {
          on.cell.state = on.spill_stores + on.spill_loads > 0 ? CellState::spills : CellState::compiles;
          on.cell.spill_bytes = on.spill_stores + on.spill_loads;
        }
      }
    }
    if (file_cell.state != CellState::compiles) continue;
    std::vector<std::string> words;
    for (const KernelReportRow& row : verdict.kernels) {
      const Cell& cell = row.targets[t].cell;
      if (rank(cell) > rank(file_cell)) file_cell = cell;
      if (cell.state == CellState::spills && file_cell.state == CellState::spills) {
        file_cell.spill_bytes = std::max(file_cell.spill_bytes, cell.spill_bytes);
      }
    }
    const Cell whole = failing_cell(causes, target, "");
    if (!whole.detail.empty()) file_cell = whole.state == CellState::wont_compile || file_cell.fails() ? whole : file_cell;
  }

  add_spill_causes(verdict, targets);
  const auto answered = static_cast<std::size_t>(
      std::count_if(compiles.targets.begin(), compiles.targets.end(), gave_answer));
  for (Cause& cause : causes) {
    const bool own_limit = cause.key.rfind("launch-shared", 0) == 0;  // the limit differs by architecture
    cause.everywhere = !is_architectures_own(cause.kind) && !own_limit && cause.severity == Severity::fails && answered > 0 &&
                       cause.targets.size() >= answered;
    finish_fix(cause);
  }
  std::stable_sort(causes.begin(), causes.end(), [](const Cause& a, const Cause& b) {
    const auto order = [](const Cause& c) {
      return std::make_tuple(static_cast<int>(c.severity), c.unreached, !c.everywhere);
    };
    return order(a) < order(b);
  });
  verdict.path_forward = find_path_forward(verdict, targets, sources.main(), ours);
  verdict.summary = summary_sentence(verdict, targets);
  return verdict;
}

int exit_code_of(const Verdict& verdict, bool asked_by_name) {
  bool fails = false, no_answer = false, broken = false;
  for (const FileVerdict& file : verdict.files) {
    for (const Cell& cell : file.cells) {
      fails = fails || cell.fails();
      no_answer = no_answer || cell.state == CellState::no_answer;
    }
    for (const Cause& cause : file.causes) broken = broken || cause.kind == CauseKind::toolchain;
  }
  if (fails) return 1;
  if (broken) return 3;
  if (no_answer) return 5;
  if (asked_by_name && !verdict.unknown_targets.empty()) return 3;
  return verdict.unknown_targets.size() == verdict.targets.size() ? 3 : 0;
}

}  // namespace triage::static_triage
