#include "registry/attention_registry.h"

#include <cstdlib>
#include <deque>
#include <initializer_list>
#include <string_view>

#include "attention/sm80_kernels.h"
#include "attention/sm90_kernels.h"
#include "cpu/cpu_attention.h"
#include "registry/registry.h"
#include "registry/source_hash.h"
#include "triage/error.h"

namespace triage {

namespace {

// The lists: families from the most special to the most general; each family orders its own rows.
template <typename Kernel>
std::vector<const Kernel*> list_rows(std::initializer_list<std::span<const Kernel>> families) {
  std::vector<const Kernel*> list;
  for (const std::span<const Kernel>& rows : families) {
    for (const Kernel& row : rows) list.push_back(&row);
  }
  return list;
}

std::vector<const AttentionKernel*>& kernel_list() {
  static std::vector<const AttentionKernel*> list =
      list_rows<AttentionKernel>({sm90_attention_kernels(), sm80_attention_kernels(), cpu_attention_kernels()});
  return list;
}

// One direction, for what is written once for both.
template <typename Call>
struct DirectionOf;

template <>
struct DirectionOf<AttentionCall> {
  static constexpr const char* kOperation = kAttentionForward;
  static std::span<const AttentionKernel* const> kernels() { return attention_kernels(); }
};

template <>
struct DirectionOf<AttentionBackwardCall> {
  static constexpr const char* kOperation = kAttentionBackward;
  static std::span<const AttentionBackwardKernel* const> kernels() { return attention_backward_kernels(); }
};

constexpr DType kDTypes[] = {DType::float16, DType::bfloat16, DType::float32, DType::float64};

std::string describe(const char* operation, const AttentionProblem& p) {
  const auto number = [](std::int64_t value) { return std::to_string(value); };
  std::string text = std::string(operation) + " with batch " + number(p.batch) + ", " + number(p.heads) +
                     " heads, " + number(p.kv_heads) + " KV heads, " + number(p.seqlen_q) + " queries, " +
                     number(p.seqlen_k) + " keys, head_dim " + number(p.head_dim);
  if (p.head_dim_v != p.head_dim) text += ", head_dim_v " + number(p.head_dim_v);
  if (p.causal()) text += ", causal";
  if (p.masked() && !p.causal()) text += ", window " + number(p.window_left) + "/" + number(p.window_right);
  if (p.softcap > 0) text += ", softcap";
  if (p.varlen_q || p.varlen_k) text += ", cu_seqlens";
  if (p.has_seqused_k) text += ", seqused_k";
  if (p.page_size > 0) text += ", pages of " + number(p.page_size);
  if (p.has_sinks) text += ", sinks";
  if (p.num_splits > 0) text += ", num_splits " + number(p.num_splits);
  return text + ", " + dtype_name(p.dtype);
}

template <typename Call>
const AttentionKernelOf<Call>* find_row(std::string_view name) {
  for (const AttentionKernelOf<Call>* kernel : DirectionOf<Call>::kernels()) {
    if (kernel->name == name) return kernel;
  }
  return nullptr;
}

template <typename Call>
std::string names_of_rows() {
  std::string names;
  for (const AttentionKernelOf<Call>* kernel : DirectionOf<Call>::kernels()) {
    names += std::string(names.empty() ? "" : ", ") + kernel->name;
  }
  return names;
}

// The row that TRIAGE_FORCE_KERNEL names; nullptr if the variable is unset or empty.
template <typename Call>
const AttentionKernelOf<Call>* forced_kernel(const AttentionProblem& problem) {
  const char* name = std::getenv("TRIAGE_FORCE_KERNEL");
  if (name == nullptr || *name == '\0') return nullptr;
  if (const AttentionKernelOf<Call>* kernel = find_row<Call>(name)) return kernel;
  const char* computes = find_row<AttentionCall>(name) != nullptr           ? kAttentionForward
                         : find_row<AttentionBackwardCall>(name) != nullptr ? kAttentionBackward
                                                                            : nullptr;
  if (computes != nullptr) {
    throw Error(ErrorCode::unsupported, std::string("TRIAGE_FORCE_KERNEL=") + name + " cannot run " +
                                            describe(DirectionOf<Call>::kOperation, problem) + ": it computes " +
                                            computes);
  }
  throw Error(ErrorCode::unsupported,
              std::string("TRIAGE_FORCE_KERNEL is '") + name + "', which is no attention kernel; attention kernels: " +
                  names_of_rows<AttentionCall>() + ", " + names_of_rows<AttentionBackwardCall>());
}

template <typename Call>
Support judge_row(const AttentionKernelOf<Call>& kernel, const AttentionProblem& problem, const Device& device) {
  if (kernel.launch == nullptr) return {false, "this build does not hold its code"};
  Support family = family_runs_on(kernel.family, device);
  if (!family.ok) return family;
  if (!device.has_code) return {false, "this build holds no code for " + device.name};
  if (!lists_dtype(kernel.dtypes, problem.dtype)) return {false, std::string("it takes ") + kernel.dtypes};
  return kernel.can_run(problem, device);
}

template <typename Call>
const AttentionKernelOf<Call>& select(const AttentionProblem& problem, const Device& device) {
  const char* operation = DirectionOf<Call>::kOperation;
  if (const AttentionKernelOf<Call>* forced = forced_kernel<Call>(problem)) {
    const Support support = judge_row(*forced, problem, device);
    if (support.ok) return *forced;
    throw Error(ErrorCode::unsupported, std::string("TRIAGE_FORCE_KERNEL=") + forced->name + " cannot run " +
                                            describe(operation, problem) + ": " + support.reason);
  }
  std::string lacks;
  for (const AttentionKernelOf<Call>* kernel : DirectionOf<Call>::kernels()) {
    const Support support = judge_row(*kernel, problem, device);
    if (support.ok) return *kernel;
    lacks += std::string(lacks.empty() ? "" : "; ") + kernel->name + ": " + support.reason;
  }
  throw Error(ErrorCode::unsupported,
              "no kernel takes " + describe(operation, problem) + " on " + device.name + ": " + lacks);
}

template <typename Call>
void add_reports(const Device& device, std::vector<KernelReport>& reports) {
  for (const AttentionKernelOf<Call>* kernel : DirectionOf<Call>::kernels()) {
    KernelReport report;
    report.name = kernel->name;
    report.operation = DirectionOf<Call>::kOperation;
    report.family = family_name(kernel->family);
    report.dtypes = split_words(kernel->dtypes);
    report.block_size = 0;
    report.head_dims = kernel->head_dims;
    report.compiled = kernel->launch != nullptr;
    const Support support = judge_row(*kernel, ordinary_problem(*kernel), device);
    report.can_run = support.ok;
    report.reason = support.reason;
    report.source = kernel->source;
    report.source_sha256 = std::string(source_sha256(kernel->source));
    reports.push_back(std::move(report));
  }
}

}  // namespace

std::span<const AttentionKernel* const> attention_kernels() { return kernel_list(); }

std::span<const AttentionBackwardKernel* const> attention_backward_kernels() {
  static const std::vector<const AttentionBackwardKernel*> list = list_rows<AttentionBackwardKernel>(
      {sm90_attention_backward_kernels(), sm80_attention_backward_kernels(), cpu_attention_backward_kernels()});
  return list;
}

void add_attention_kernel(const AttentionKernel& kernel) {
  static std::deque<AttentionKernel> added;  // rows stay where they are
  kernel_list().push_back(&added.emplace_back(kernel));
}

Support judge(const AttentionKernel& kernel, const AttentionProblem& problem, const Device& device) {
  return judge_row(kernel, problem, device);
}
Support judge(const AttentionBackwardKernel& kernel, const AttentionProblem& problem, const Device& device) {
  return judge_row(kernel, problem, device);
}

const AttentionKernel& select_attention(const AttentionProblem& problem, const Device& device) {
  return select<AttentionCall>(problem, device);
}
const AttentionBackwardKernel& select_attention_backward(const AttentionProblem& problem, const Device& device) {
  return select<AttentionBackwardCall>(problem, device);
}

AttentionProblem ordinary_attention_problem(const char* dtypes) {
  AttentionProblem problem;
  problem.batch = 2;
  problem.heads = problem.kv_heads = 16;
  problem.seqlen_q = problem.seqlen_k = 1024;
  problem.total_q = problem.total_k = 2048;
  problem.head_dim = problem.head_dim_v = 128;
  problem.has_lse = true;
  for (const DType dtype : kDTypes) {
    problem.dtype = dtype;
    if (lists_dtype(dtypes, dtype)) break;
  }
  return problem;
}

std::vector<KernelReport> attention_reports(const Device& device) {
  std::vector<KernelReport> reports;
  add_reports<AttentionCall>(device, reports);
  add_reports<AttentionBackwardCall>(device, reports);
  return reports;
}

}  // namespace triage
