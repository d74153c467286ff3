// The sentences that lead somewhere: where a file runs, and what to do where it does not.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "verdict/static/instruction_facts.h"
#include "verdict/static/judge.h"
#include "verdict/static/replacements.h"

namespace triage::static_triage {
namespace {

constexpr std::size_t kMaxExamples = 3;

bool holds_for(const Cause& cause, const std::string& target) {
  return std::find(cause.targets.begin(), cause.targets.end(), target) != cause.targets.end();
}

void add_unique(std::vector<std::string>& list, const std::string& value) {
  if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
}

// What the file's kernels are for, as far as their words tell.
std::string operation_hint(const SourceFile& source) {
  for (const FunctionText& function : source.functions()) {
    std::string name = function.name;
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    for (const char* word : {"attention", "attn", "flash", "softmax", "fmha", "mha"}) {
      if (name.find(word) != std::string::npos) return "attention.";
    }
  }
  return "sparse_gemm.";
}

// Rows of the registry whose family runs on a target, one an operation: the target's own family before the portable one.
std::vector<std::string> examples_for(const Target& target, const SourceFile& source,
                                      const std::vector<KernelReport>& ours) {
  std::vector<std::string> families;
  if (target.sm == 90) families = {"sm90", "sm80"};
  else if (same_family(target.sm, 100)) families = {"sm100", "sm80"};
  else if (target.sm >= 80) families = {"sm80"};
  std::vector<std::string> result;
  const std::string hint = operation_hint(source);
  for (const std::string& family : families) {
    std::map<std::string, const KernelReport*> by_operation;
    for (const KernelReport& row : ours) {
      if (row.family == family && row.operation.rfind(hint, 0) == 0) by_operation.emplace(row.operation, &row);
    }
    for (const auto& [operation, row] : by_operation) {
      if (result.size() < kMaxExamples) result.push_back(fmt::format("{} ({}, {})", row->name, operation, row->source));
    }
    if (!result.empty()) break;
  }
  return result;
}

// "80, 86 and 89 (wgmma)": the targets that fail, put together by what the matrix says of them.
std::string failing_targets(const FileVerdict& verdict, const std::vector<Target>& targets) {
  std::vector<std::pair<std::string, std::vector<std::string>>> groups;
  for (std::size_t t = 0; t < targets.size(); ++t) {
    const Cell& cell = verdict.cells[t];
    if (!cell.fails() && cell.state != CellState::no_answer) continue;
    std::string why = cell.detail;
    if (cell.state == CellState::needs_target) why = fmt::format("the target {}a has it: {}", targets[t].sm, cell.detail);
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == why; });
    if (group == groups.end()) group = groups.insert(groups.end(), {why, {}});
    group->second.push_back(targets[t].name());
  }
  std::vector<std::string> parts;
  for (const auto& [why, names] : groups) parts.push_back(join(names) + (why.empty() ? "" : fmt::format(" ({})", why)));
  return join(parts, ", ");
}

}  // namespace

std::vector<PathForward> find_path_forward(const FileVerdict& verdict, const std::vector<Target>& targets,
                                           const SourceFile& source, const std::vector<KernelReport>& ours) {
  std::vector<PathForward> result;
  for (std::size_t t = 0; t < targets.size(); ++t) {
    if (!verdict.cells[t].fails()) continue;
    PathForward path;
    path.target = targets[t].name();
    bool tensor_work = false;
    std::map<std::string, std::vector<std::string>> other;  // the same fix at several places is one step
    std::vector<std::string> order;
    for (const Cause& cause : verdict.causes) {
      if (cause.severity != Severity::fails || !holds_for(cause, path.target)) continue;
      const InstructionFact* fact = cause.feature.empty() ? nullptr : find_fact(cause.feature);
      if (fact != nullptr && cause.unlockable) {
        add_unique(path.steps, replacement(*fact, targets[t]));
      } else if (fact != nullptr) {
        add_unique(path.steps, fmt::format("replace {} by {}", fact->name, replacement(*fact, targets[t])));
        tensor_work = tensor_work || fact->role == Role::matrix || fact->role == Role::copy;
      } else if (cause.kind == CauseKind::empty_body) {
        add_unique(path.steps, fmt::format("write the branch that {} lacks ({})", path.target, place(cause.where)));
        tensor_work = true;
      } else {
        std::string fix = cause.fix;
        for (const auto& [target, text] : cause.fix_by_target) {
          if (target == path.target) fix = text;
        }
        std::vector<std::string>& places = other[fix];
        add_unique(places, cause.where.line > 0 ? place(cause.where) : cause.cell);
        if (places.size() == 1) order.push_back(fix);
        tensor_work = tensor_work || cause.kind == CauseKind::shared_memory;
      }
    }
    for (const std::string& fix : order) path.steps.push_back(fmt::format("{}: {}", join(other[fix]), fix));
    if (tensor_work) path.examples = examples_for(targets[t], source, ours);
    result.push_back(path);
  }
  return result;
}

std::string summary_sentence(const FileVerdict& verdict, const std::vector<Target>& targets) {
  std::vector<std::string> good, unknown;
  for (std::size_t t = 0; t < targets.size(); ++t) {
    if (verdict.cells[t].runs()) good.push_back(targets[t].name());
    if (verdict.cells[t].state == CellState::unknown_target) unknown.push_back(targets[t].name());
  }
  const std::string bad = failing_targets(verdict, targets);
  std::string text = verdict.path;
  if (bad.empty() && good.empty()) {
    text += ": this nvcc knows none of the architectures asked for";
  } else if (bad.empty()) {
    const bool no_kernels = std::none_of(verdict.kernels.begin(), verdict.kernels.end(), [](const KernelReportRow& row) {
      return std::any_of(row.targets.begin(), row.targets.end(), [](const KernelOnTarget& on) { return on.measured; });
    });
    text += fmt::format(" builds for {}", join(good));
    if (no_kernels) text += ", but holds no kernel that was compiled";
  } else if (good.empty()) {
    const auto common = std::find_if(verdict.causes.begin(), verdict.causes.end(),
                                     [](const Cause& cause) { return cause.everywhere; });
    text += " builds for none of the architectures asked for: ";
    text += common != verdict.causes.end()
                ? fmt::format("{}{}", common->found, common->where.line > 0 ? fmt::format(" (line {})", common->where.line) : "")
                : bad;
  } else {
    text += fmt::format(" builds for {}; not for {}", join(good), bad);
  }
  if (!unknown.empty() && !(bad.empty() && good.empty())) text += fmt::format("; this nvcc does not know {}", join(unknown));
  return text + ".";
}

}  // namespace triage::static_triage
