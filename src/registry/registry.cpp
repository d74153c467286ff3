#include "registry/registry.h"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <string>
#include <string_view>

#include "cpu/cpu_kernels.h"
#include "registry/attention_registry.h"
#include "registry/source_hash.h"
#include "sparse_gemm/sm80_kernels.h"
#include "sparse_gemm/sm90_kernels.h"
#include "triage/error.h"

namespace triage {

namespace {

// The list: families from the most special to the most general; each family orders its own rows.
std::vector<const SparseGemmKernel*> list_kernels() {
  std::vector<const SparseGemmKernel*> list;
  for (const auto& rows : {sm90_sparse_gemm_kernels(), sm80_sparse_gemm_kernels(), cpu_sparse_gemm_kernels()}) {
    for (const SparseGemmKernel& row : rows) list.push_back(&row);
  }
  return list;
}

std::vector<const SparseGemmKernel*>& kernel_list() {
  static std::vector<const SparseGemmKernel*> list = list_kernels();
  return list;
}

// Families match by list, never by >=. Code for x.0 runs on x.y (CUDA's promise for targets without suffix),
// so 8.7, 10.3 and 12.1 are sm80's as well.
constexpr int kSm80Devices[] = {80, 86, 87, 89, 90, 100, 103, 120, 121};

}  // namespace

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const std::size_t space = std::min(text.find(' '), text.size());
    if (space > 0) words.emplace_back(text.substr(0, space));
    text.remove_prefix(std::min(space + 1, text.size()));
  }
  return words;
}

bool lists_dtype(std::string_view dtypes, DType dtype) {
  const std::vector<std::string> words = split_words(dtypes);
  return std::find(words.begin(), words.end(), dtype_name(dtype)) != words.end();
}

Support family_runs_on(Family family, const Device& device) {
  const int cc = device.compute_capability;
  const auto only_if = [&](bool ok, const char* needed) -> Support {
    if (ok) return {};
    if (device.is_cpu()) return {false, std::string("it needs ") + needed + "; the tensors are in host memory"};
    return {false, std::string("it needs ") + needed + "; " + device.name + " is " + std::to_string(cc / 10) + "." +
                       std::to_string(cc % 10)};
  };
  switch (family) {
    case Family::cpu:
      return only_if(device.is_cpu(), "tensors in host memory");
    case Family::sm80:
      return only_if(std::find(std::begin(kSm80Devices), std::end(kSm80Devices), cc) != std::end(kSm80Devices),
                     "a CUDA device of 8.0, 8.6, 8.7, 8.9, 9.0, 10.0, 10.3, 12.0 or 12.1");
    case Family::sm90:
      return only_if(cc == 90, "a CUDA device of 9.0 (H100, H200)");
    case Family::sm100:
      return only_if(cc == 100, "a CUDA device of 10.0 (B200)");
    case Family::user:
      return {};
  }
  return {false, "its family is unknown"};
}

namespace {

// Whether this build holds code for the kernel on this device at all.
Support built_for(const SparseGemmKernel& kernel, const Device& device) {
  if (kernel.launch == nullptr) return {false, "this build does not hold its code"};
  Support family = family_runs_on(kernel.family, device);
  if (!family.ok) return family;
  if (!device.has_code && kernel.family != Family::user) return {false, "this build holds no code for " + device.name};
  return {};
}

std::string describe(const SparseGemmProblem& p) {
  const std::string sparse = std::to_string(p.rows) + " x " + std::to_string(p.cols);
  return std::string(operation_name(p.operation)) + " with a " + sparse + " block-sparse matrix, block " +
         std::to_string(p.block) + ", dense size " + std::to_string(p.dense) + ", " + dtype_name(p.dtype);
}

// The row that TRIAGE_FORCE_KERNEL names; nullptr if the variable is unset or empty.
const SparseGemmKernel* forced_kernel() {
  const char* name = std::getenv("TRIAGE_FORCE_KERNEL");
  if (name == nullptr || *name == '\0') return nullptr;
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
    if (std::string_view(kernel->name) == name) return kernel;
  }
  std::string known;
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels())
    known += std::string(known.empty() ? "" : ", ") + kernel->name;
  throw Error(ErrorCode::unsupported,
              std::string("TRIAGE_FORCE_KERNEL is '") + name + "', which is no kernel; kernels: " + known);
}

// The first kernel that `accepts`, or the forced one.
template <typename Accepts>
const SparseGemmKernel& select(const SparseGemmProblem& problem, const Device& device, const Accepts& accepts) {
  if (const SparseGemmKernel* forced = forced_kernel()) {
    const Support support = accepts(*forced);
    if (support.ok) return *forced;
    throw Error(ErrorCode::unsupported, std::string("TRIAGE_FORCE_KERNEL=") + forced->name + " cannot run " +
                                            describe(problem) + ": " + support.reason);
  }
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
    if (kernel->operation == problem.operation && accepts(*kernel).ok) return *kernel;
  }
  std::string lacks;
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
    if (kernel->operation != problem.operation) continue;
    lacks += std::string(lacks.empty() ? "" : "; ") + kernel->name + ": " + accepts(*kernel).reason;
  }
  throw Error(ErrorCode::unsupported, "no kernel takes " + describe(problem) + " on " + device.name + ": " + lacks);
}

}  // namespace

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::float16:
      return "float16";
    case DType::bfloat16:
      return "bfloat16";
    case DType::float32:
      return "float32";
    case DType::float64:
      return "float64";
  }
  return "unknown";
}

const char* operation_name(Operation operation) {
  switch (operation) {
    case Operation::spmm:
      return "sparse_gemm.spmm";
    case Operation::linear:
      return "sparse_gemm.linear";
    case Operation::sddmm:
      return "sparse_gemm.sddmm";
  }
  return "unknown";
}

const char* family_name(Family family) {
  switch (family) {
    case Family::cpu:
      return "cpu";
    case Family::sm80:
      return "sm80";
    case Family::sm90:
      return "sm90";
    case Family::sm100:
      return "sm100";
    case Family::user:
      return "user";
  }
  return "unknown";
}

std::span<const SparseGemmKernel* const> sparse_gemm_kernels() { return kernel_list(); }

void add_sparse_gemm_kernel(const SparseGemmKernel& kernel) {
  static std::deque<SparseGemmKernel> added;  // rows stay where they are
  kernel_list().push_back(&added.emplace_back(kernel));
}

Support judge(const SparseGemmKernel& kernel, const SparseGemmProblem& problem, const Device& device) {
  if (kernel.operation != problem.operation) {
    return {false, std::string("it computes ") + operation_name(kernel.operation)};
  }
  Support built = built_for(kernel, device);
  if (!built.ok) return built;
  if (kernel.block != 0 && kernel.block != problem.block) {
    return {false, "it takes blocks of " + std::to_string(kernel.block)};
  }
  if (!lists_dtype(kernel.dtypes, problem.dtype)) return {false, std::string("it takes ") + kernel.dtypes};
  if (problem.values_layout == ValuesLayout::packed && kernel.prepack == nullptr) {
    return {false, "it reads canonical values only"};
  }
  return kernel.can_run(problem, device);
}

const SparseGemmKernel& select_sparse_gemm(const SparseGemmProblem& problem, const Device& device) {
  if (problem.values_layout == ValuesLayout::canonical) {
    return select(problem, device, [&](const SparseGemmKernel& kernel) { return judge(kernel, problem, device); });
  }
  const SparseGemmKernel& kernel = select_packing(problem, device);
  const Support support = judge(kernel, problem, device);
  if (support.ok) return kernel;
  throw Error(ErrorCode::unsupported, std::string("packed values are ") + kernel.name + "'s, which cannot run " +
                                          describe(problem) + ": " + support.reason + "; canonical values may do");
}

const SparseGemmKernel& select_packing(const SparseGemmProblem& problem, const Device& device) {
  SparseGemmProblem packing = problem;
  packing.values_layout = ValuesLayout::packed;
  packing.dense = problem.block;  // not known when packing; any size that every kernel takes
  packing.aligned16 = true;
  return select(packing, device, [&](const SparseGemmKernel& kernel) { return judge(kernel, packing, device); });
}

std::vector<ScheduleSpec> schedule_specs(const PatternShape& pattern, const Device& device) {
  std::vector<ScheduleSpec> specs;
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
    if (kernel->schedule == nullptr || !built_for(*kernel, device).ok) continue;
    if (kernel->block != 0 && kernel->block != pattern.block) continue;
    const std::optional<ScheduleSpec> spec = kernel->schedule(pattern, device);
    if (spec && std::find(specs.begin(), specs.end(), *spec) == specs.end()) specs.push_back(*spec);
  }
  return specs;
}

std::vector<KernelReport> kernel_reports(DLDevice dl) {
  const Device& device = probe_device(dl);
  std::vector<KernelReport> reports;
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
    KernelReport report;
    report.name = kernel->name;
    report.operation = operation_name(kernel->operation);
    report.family = family_name(kernel->family);
    report.dtypes = split_words(kernel->dtypes);
    report.block_size = kernel->block;
    report.compiled = kernel->launch != nullptr;
    // An ordinary problem: what is left to refuse is the device.
    SparseGemmProblem problem;
    problem.operation = kernel->operation;
    problem.block = kernel->block != 0 ? kernel->block : 32;
    problem.rows = problem.cols = problem.dense = 1024;
    problem.nnz_blocks = problem.rows / problem.block;
    for (DType dtype : {DType::float16, DType::bfloat16, DType::float32, DType::float64}) {
      problem.dtype = dtype;
      if (lists_dtype(kernel->dtypes, dtype)) break;
    }
    const Support support = judge(*kernel, problem, device);
    report.can_run = support.ok;
    report.reason = support.reason;
    report.source = kernel->source;
    report.source_sha256 = std::string(source_sha256(kernel->source));
    reports.push_back(std::move(report));
  }
  for (KernelReport& report : attention_reports(device)) reports.push_back(std::move(report));
  return reports;
}

const char* version() noexcept { return TRIAGE_VERSION; }

}  // namespace triage
