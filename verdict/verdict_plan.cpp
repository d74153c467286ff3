#include "verdict/verdict_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "bench/attention_shapes.h"
#include "bench/shapes.h"
#include "registry/attention_registry.h"
#include "registry/registry.h"
#include "verdict/device_choice.h"
#include "verdict/worker_fault.h"

namespace triage::verdict {
namespace {

const std::vector<int> kBlocks{16, 32, 64, 128};

template <class T>
bool wanted(const std::vector<T>& filter, const T& value) {
  return filter.empty() || std::find(filter.begin(), filter.end(), value) != filter.end();
}

/// Operations may be named in short ("spmm") or in full ("sparse_gemm.spmm").
bool op_wanted(const std::vector<std::string>& filter, const std::string& op) {
  return wanted(filter, op) || wanted(filter, op.substr(op.rfind('.') + 1));
}

template <class Shape>
bool shape_wanted(const std::vector<std::string>& filter, const Shape& shape) {
  if (filter.empty()) return true;
  return std::any_of(filter.begin(), filter.end(),
                     [&](const std::string& part) { return shape.label().find(part) != std::string::npos; });
}

/// A sentence about the first filter value that names nothing, whatever the machine.
std::string unknown_value(const VerdictOptions& options) {
  std::set<std::string> kernels, ops, dtypes, shape_names;
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
    kernels.insert(kernel->name);
    ops.insert(operation_name(kernel->operation));
  }
  for (const AttentionKernel* kernel : attention_kernels()) kernels.insert(kernel->name);
  for (const AttentionBackwardKernel* kernel : attention_backward_kernels()) kernels.insert(kernel->name);
  ops.insert(kAttentionForward);
  ops.insert(kAttentionBackward);
  for (bench::Machine machine : {bench::Machine::gpu, bench::Machine::cpu}) {
    for (const bench::Shape& shape : bench::shapes(machine)) shape_names.insert(shape.name);
    for (const bench::AttentionShape& shape : bench::attention_shapes(machine)) shape_names.insert(shape.name);
  }
  for (DType dtype : {DType::float16, DType::bfloat16, DType::float32, DType::float64})
    dtypes.insert(dtype_name(dtype));
  const auto missing = [&](const char* option, const std::vector<std::string>& values,
                           const std::set<std::string>& known) {
    for (const std::string& value : values) {
      if (!known.count(value)) return fmt::format("{} is '{}'; accepted: {}", option, value, fmt::join(known, ", "));
    }
    return std::string();
  };
  std::set<std::string> op_names = ops;
  for (const std::string& op : ops) op_names.insert(op.substr(op.rfind('.') + 1));
  std::string problem = missing("--kernel", options.kernels, kernels);
  if (problem.empty()) problem = missing("--op", options.ops, op_names);
  if (problem.empty()) problem = missing("--dtype", options.dtypes, dtypes);
  if (problem.empty()) problem = missing("--only", options.only, {"timing", "grid", "crossover", "evidence"});
  const bool evidence_named = std::find(options.only.begin(), options.only.end(), "evidence") != options.only.end();
  if (problem.empty() && evidence_named && !options.sanitize && !options.profile) {
    problem = "--only evidence needs --sanitize, --profile or both";
  }
  for (int block : options.blocks) {
    if (problem.empty() && !wanted(kBlocks, block)) {
      problem = fmt::format("--block is {}; accepted: {}", block, fmt::join(kBlocks, ", "));
    }
  }
  for (const std::string& part : options.shapes) {
    bool found = false;
    for (bench::Machine machine : {bench::Machine::gpu, bench::Machine::cpu}) {
      for (const bench::Shape& shape : bench::shapes(machine)) found = found || shape_wanted({part}, shape);
      for (const auto& shape : bench::attention_shapes(machine)) found = found || shape_wanted({part}, shape);
    }
    if (problem.empty() && !found) {
      problem = fmt::format("--shape is '{}', which is part of no shape's name; names: {}", part,
                            fmt::join(shape_names, ", "));
    }
  }
  return problem;
}

Job make_job(JobKind kind, const VerdictOptions& options, DLDevice device, const KernelReport& kernel) {
  Job job;
  job.kind = kind;
  job.cuda = device.device_type == kDLCUDA;
  job.ordinal = device.device_id;
  job.op = kernel.operation;
  job.kernel = kernel.name;
  job.family = kernel.family;
  job.source_sha256 = kernel.source_sha256;
  job.user = options.user;
  job.seed = options.seed;
  job.quick = options.quick;
  job.peers = options.peers;
  job.shared_memory_kb = job.cuda ? options.shared_memory_kb : 0;
  return job;
}

ReceiptShape receipt_shape(const bench::Shape& shape, const std::string& layout) {
  ReceiptShape result;
  result.m = shape.m;
  result.n = shape.n;
  result.k = shape.k;
  result.block = shape.block;
  result.density = shape.density;
  result.pattern = shape.pattern;
  result.layout = layout;
  result.name = shape.name;
  result.epilogue = shape.epilogue;
  return result;
}

bool has_packed_layout(const std::string& kernel) {
  for (const SparseGemmKernel* row : sparse_gemm_kernels()) {
    if (kernel == row->name) return row->prepack != nullptr;
  }
  return false;
}

void plan_timings(MachinePlan& plan, const VerdictOptions& options, const KernelReport& kernel,
                  const std::vector<bench::Shape>& shapes) {
  for (const bench::Shape& shape : shapes) {
    if (shape.op != kernel.operation || (kernel.block_size != 0 && kernel.block_size != shape.block)) continue;
    if (!wanted(kernel.dtypes, shape.dtype) || !wanted(options.dtypes, shape.dtype)) continue;
    if (!wanted(options.blocks, shape.block) || !shape_wanted(options.shapes, shape)) continue;
    if (options.quick && !shape.quick) continue;
    for (const char* layout : {"canonical", "packed"}) {
      if (layout == std::string("packed") && (options.quick || !has_packed_layout(kernel.name))) continue;
      Job job = make_job(JobKind::timing, options, plan.device, kernel);
      job.dtype = shape.dtype;
      job.shape = receipt_shape(shape, layout);
      plan.jobs.push_back(job);
    }
  }
}

bool is_attention(const std::string& operation) {
  return operation == kAttentionForward || operation == kAttentionBackward;
}

void plan_attention(MachinePlan& plan, const VerdictOptions& options, const KernelReport& kernel) {
  const bool gpu = plan.device.device_type == kDLCUDA;
  for (const bench::AttentionShape& shape : bench::attention_shapes(gpu ? bench::Machine::gpu : bench::Machine::cpu)) {
    if (!wanted(options.only, std::string("timing")) || (options.quick && !shape.quick)) continue;
    if (!wanted(kernel.dtypes, shape.dtype) || !wanted(options.dtypes, shape.dtype)) continue;
    if (kernel.operation == kAttentionBackward && !shape.trains()) continue;
    if (!wanted(options.blocks, shape.block)) continue;
    const auto add = [&](const bench::AttentionShape& wanted_shape) {
      if (!shape_wanted(options.shapes, wanted_shape)) return;
      Job job = make_job(JobKind::timing, options, plan.device, kernel);
      job.dtype = wanted_shape.dtype;
      job.shape.name = wanted_shape.name;
      job.shape.attention = wanted_shape;
      plan.jobs.push_back(job);
    };
    add(shape);
    // The one family with a way of its own for sums in any order.
    if (kernel.operation == kAttentionBackward && kernel.family == "sm90") add(shape.in_any_order());
  }
  if (!wanted(options.only, std::string("grid")) || !options.shapes.empty() || !options.blocks.empty()) return;
  Job job = make_job(JobKind::grid, options, plan.device, kernel);
  job.shape.name = "grid";
  plan.jobs.push_back(job);
}

void plan_crossovers(MachinePlan& plan, const VerdictOptions& options, const KernelReport& kernel) {
  const bool gpu = plan.device.device_type == kDLCUDA;
  const std::string dtype = gpu ? "float16" : "float32";
  if (!wanted(kernel.dtypes, dtype) || !wanted(options.dtypes, dtype) || !options.shapes.empty()) return;
  if (options.quick && kernel.operation == "sparse_gemm.sddmm") return;
  for (int block : kBlocks) {
    if ((kernel.block_size != 0 && kernel.block_size != block) || !wanted(options.blocks, block)) continue;
    Job job = make_job(JobKind::crossover, options, plan.device, kernel);
    job.dtype = dtype;
    job.shape.m = job.shape.n = job.shape.k =
        bench::crossover_size(gpu ? bench::Machine::gpu : bench::Machine::cpu, options.quick);
    job.shape.block = block;
    job.shape.pattern = "uniform";
    job.shape.name = "crossover";
    plan.jobs.push_back(job);
  }
}

/// The jobs of --sanitize and --profile for one kernel. The profile is of the first of its cases that --quick has, and
/// of the first one with sums in any order.
void plan_evidence(MachinePlan& plan, const VerdictOptions& options, const KernelReport& kernel,
                   const std::vector<bench::Shape>& shapes) {
  if (plan.device.device_type != kDLCUDA && !evidence_on_cpu()) return;
  const bool block_fits = kernel.block_size == 0 || wanted(options.blocks, kernel.block_size);
  if (options.sanitize && block_fits) {
    Job job = make_job(JobKind::sanitize, options, plan.device, kernel);
    job.shape.block = kernel.block_size;
    job.shape.name = "sanitizer";
    plan.jobs.push_back(job);
  }
  if (!options.profile) return;
  MachinePlan timings;
  timings.device = plan.device;
  VerdictOptions timed = options;
  timed.only = {"timing"};
  for (const bool quick : {true, false}) {  // the headline case, else any
    timed.quick = quick;
    if (!timings.jobs.empty()) break;
    if (is_attention(kernel.operation)) {
      plan_attention(timings, timed, kernel);
    } else {
      plan_timings(timings, timed, kernel, shapes);
    }
  }
  if (timings.jobs.empty()) return;
  // Sums in any order may be the work of another kernel.
  const auto any_order = std::find_if(timings.jobs.begin(), timings.jobs.end(), [](const Job& job) {
    return job.shape.attention && job.shape.attention->any_order;
  });
  for (auto job : {timings.jobs.begin(), any_order}) {
    if (job == timings.jobs.end()) continue;
    job->kind = JobKind::profile;
    plan.jobs.push_back(*job);
  }
}

/// All timings, then all grids, then the crossovers. A quick run may have to stop early, so it goes round the
/// kernels instead: each gets its first timing and its grid before any gets its second.
void put_in_order(std::vector<Job>& jobs, bool quick) {
  std::map<std::string, int> timings_so_far;
  std::vector<std::pair<int, Job>> ranked;
  for (Job& job : jobs) {
    int rank = 0;
    if (job.kind == JobKind::timing && quick) {
      const int turn = timings_so_far[job.kernel]++;
      rank = turn == 0 ? 0 : turn + 1;
    }
    if (job.kind == JobKind::grid) rank = 1;
    if (job.kind == JobKind::crossover) rank = 1 << 20;
    if (job.kind == JobKind::sanitize || job.kind == JobKind::profile) rank = 1 << 21;
    ranked.emplace_back(rank, std::move(job));
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  jobs.clear();
  for (auto& entry : ranked) jobs.push_back(std::move(entry.second));
}

MachinePlan plan_machine(const VerdictOptions& options, DLDevice device, const std::vector<KernelReport>& reports) {
  MachinePlan plan;
  plan.device = device;
  const bool gpu = device.device_type == kDLCUDA;
  const std::vector<bench::Shape> shapes = bench::shapes(gpu ? bench::Machine::gpu : bench::Machine::cpu);
  for (const KernelReport& kernel : reports) {
    if (!kernel.can_run || !wanted(options.kernels, kernel.name) || !op_wanted(options.ops, kernel.operation)) continue;
    plan_evidence(plan, options, kernel, shapes);
    if (is_attention(kernel.operation)) {
      plan_attention(plan, options, kernel);
      continue;
    }
    if (wanted(options.only, std::string("timing"))) plan_timings(plan, options, kernel, shapes);
    const bool block_fits = kernel.block_size == 0 || wanted(options.blocks, kernel.block_size);
    if (wanted(options.only, std::string("grid")) && block_fits && options.shapes.empty()) {
      Job job = make_job(JobKind::grid, options, device, kernel);
      job.shape.block = kernel.block_size;
      job.shape.name = "grid";
      plan.jobs.push_back(job);
    }
    if (wanted(options.only, std::string("crossover")) && options.peers) plan_crossovers(plan, options, kernel);
  }
  put_in_order(plan.jobs, options.quick);
  return plan;
}

}  // namespace

bool evidence_only(const VerdictOptions& options) {
  return options.only.size() == 1 && options.only.front() == "evidence";
}

VerdictPlan plan_verdict(const VerdictOptions& options) {
  VerdictPlan plan;
  plan.problem = unknown_value(options);
  plan.exit_code = kUsage;
  if (!plan.problem.empty()) return plan;
  const DeviceChoice choice = choose_devices(options.device);
  if (!choice.problem.empty()) {
    plan.problem = choice.problem;
    plan.exit_code = choice.exit_code;
    return plan;
  }
  std::vector<std::string> refusals;
  bool some_can_run = false;
  for (const DLDevice& device : choice.devices) {
    const std::vector<KernelReport> reports = kernel_reports(device);
    MachinePlan machine = plan_machine(options, device, reports);
    if (!machine.jobs.empty()) plan.machines.push_back(std::move(machine));
    for (const KernelReport& kernel : reports) {
      const bool asked = wanted(options.kernels, kernel.name) && op_wanted(options.ops, kernel.operation);
      some_can_run = some_can_run || (asked && kernel.can_run);
      if (asked && !kernel.can_run) refusals.push_back(fmt::format("{}: {}", kernel.name, kernel.reason));
    }
  }
  plan.exit_code = kAllRight;
  if (!plan.machines.empty()) return plan;
  if (evidence_only(options) && some_can_run) {
    plan.exit_code = kNoDevice;
    plan.problem =
        "compute-sanitizer and Nsight Compute look at GPU kernels, and none of what was asked runs on a GPU here";
    return plan;
  }
  // Nothing to do: because the kernels asked for cannot run here, or because the filters exclude each other.
  plan.exit_code = some_can_run ? kUsage : kNoDevice;
  plan.problem = some_can_run ? "no case fits all of the filters"
                              : fmt::format("nothing of what was asked can run here: {}", fmt::join(refusals, "; "));
  return plan;
}

}  // namespace triage::verdict
