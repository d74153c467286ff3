#include "registry/attention_registry.h"

#include <cstdlib>
#include <deque>
#include <string_view>

#include "attention/sm80_kernels.h"
#include "attention/sm90_kernels.h"
#include "cpu/cpu_attention.h"
#include "registry/registry.h"
#include "registry/source_hash.h"
#include "triage/error.h"

namespace triage {

namespace {

// The list: families from the most special to the most general; each family orders its own rows.
std::vector<const AttentionKernel*> list_kernels() {
  std::vector<const AttentionKernel*> list;
  for (const auto& rows : {sm90_attention_kernels(), sm80_attention_kernels(), cpu_attention_kernels()}) {
    for (const AttentionKernel& row : rows) list.push_back(&row);
  }
  return list;
}

std::vector<const AttentionKernel*>& kernel_list() {
  static std::vector<const AttentionKernel*> list = list_kernels();
  return list;
}

constexpr DType kDTypes[] = {DType::float16, DType::bfloat16, DType::float32, DType::float64};

std::string describe(const AttentionProblem& p) {
  const auto number = [](std::int64_t value) { return std::to_string(value); };
  std::string text = std::string(kAttentionForward) + " with batch " + number(p.batch) + ", " + number(p.heads) +
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

const AttentionKernel* forced_kernel() {
  const char* name = std::getenv("TRIAGE_FORCE_KERNEL");
  if (name == nullptr || *name == '\0') return nullptr;
  std::string known;
  for (const AttentionKernel* kernel : attention_kernels()) {
    if (std::string_view(kernel->name) == name) return kernel;
    known += std::string(known.empty() ? "" : ", ") + kernel->name;
  }
  throw Error(ErrorCode::unsupported, std::string("TRIAGE_FORCE_KERNEL is '") + name +
                                          "', which is no attention kernel; attention kernels: " + known);
}

}  // namespace

std::span<const AttentionKernel* const> attention_kernels() { return kernel_list(); }

void add_attention_kernel(const AttentionKernel& kernel) {
  static std::deque<AttentionKernel> added;  // rows stay where they are
  kernel_list().push_back(&added.emplace_back(kernel));
}

Support judge(const AttentionKernel& kernel, const AttentionProblem& problem, const Device& device) {
  if (kernel.launch == nullptr) return {false, "this build does not hold its code"};
  Support family = family_runs_on(kernel.family, device);
  if (!family.ok) return family;
  if (!device.has_code) return {false, "this build holds no code for " + device.name};
  if (!lists_dtype(kernel.dtypes, problem.dtype)) return {false, std::string("it takes ") + kernel.dtypes};
  return kernel.can_run(problem, device);
}

const AttentionKernel& select_attention(const AttentionProblem& problem, const Device& device) {
  if (const AttentionKernel* forced = forced_kernel()) {
    const Support support = judge(*forced, problem, device);
    if (support.ok) return *forced;
    throw Error(ErrorCode::unsupported, std::string("TRIAGE_FORCE_KERNEL=") + forced->name + " cannot run " +
                                            describe(problem) + ": " + support.reason);
  }
  std::string lacks;
  for (const AttentionKernel* kernel : attention_kernels()) {
    const Support support = judge(*kernel, problem, device);
    if (support.ok) return *kernel;
    lacks += std::string(lacks.empty() ? "" : "; ") + kernel->name + ": " + support.reason;
  }
  throw Error(ErrorCode::unsupported, "no kernel takes " + describe(problem) + " on " + device.name + ": " + lacks);
}

AttentionProblem ordinary_problem(const AttentionKernel& kernel) {
  AttentionProblem problem;
  problem.batch = 2;
  problem.heads = problem.kv_heads = 16;
  problem.seqlen_q = problem.seqlen_k = 1024;
  problem.total_q = problem.total_k = 2048;
  problem.head_dim = problem.head_dim_v = 128;
  problem.has_lse = true;
  for (const DType dtype : kDTypes) {
    problem.dtype = dtype;
    if (lists_dtype(kernel.dtypes, dtype)) break;
  }
  return problem;
}

std::vector<KernelReport> attention_reports(const Device& device) {
  std::vector<KernelReport> reports;
  for (const AttentionKernel* kernel : attention_kernels()) {
    KernelReport report;
    report.name = kernel->name;
    report.operation = kAttentionForward;
    report.family = family_name(kernel->family);
    report.dtypes = split_words(kernel->dtypes);
    report.block_size = 0;
    report.head_dims = kernel->head_dims;
    report.compiled = kernel->launch != nullptr;
    const Support support = judge(*kernel, ordinary_problem(*kernel), device);
    report.can_run = support.ok;
    report.reason = support.reason;
    report.source = kernel->source;
    report.source_sha256 = std::string(source_sha256(kernel->source));
    reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace triage
