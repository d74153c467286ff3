#include "verdict/correctness_grid.h"

#include <fmt/format.h>

#include <chrono>
#include <stdexcept>

#include "registry/registry.h"
#include "verdict/correctness_cases.h"
#include "verdict/time_case.h"
#include "verdict/worker_fault.h"

namespace triage::verdict {
namespace {

constexpr std::size_t kQuickProblems = 64;
constexpr std::size_t kProblems = 1000;
constexpr int kRandomCases = 8;  // for each block and dtype, on top of the edge cases
constexpr double kQuickSeconds = 4;

KernelReport report_of(const Job& job, const JobContext& context) {
  for (const KernelReport& report : kernel_reports(context.device())) {
    if (report.name == job.kernel) return report;
  }
  throw std::runtime_error("there is no kernel " + job.kernel);
}

bool has_packed_layout(const std::string& name) {
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
    if (name == kernel->name) return kernel->prepack != nullptr;
  }
  return false;
}

/// An even choice of at most `most` problems, the same in every run.
std::vector<ProblemSpec> choose(std::vector<ProblemSpec> all, std::size_t most) {
  if (all.size() <= most) return all;
  std::vector<ProblemSpec> chosen;
  const double step = static_cast<double>(all.size()) / static_cast<double>(most);
  for (std::size_t i = 0; i < most; ++i) {
    chosen.push_back(std::move(all[static_cast<std::size_t>(static_cast<double>(i) * step)]));
  }
  return chosen;
}

std::vector<ProblemSpec> problems_of(const Job& job, const JobContext& context) {
  std::vector<ProblemSpec> specs =
      choose(cases_of_kernel(report_of(job, context), job.quick ? 0 : kRandomCases, job.seed),
             job.quick ? kQuickProblems : kProblems);
  if (!has_packed_layout(job.kernel)) return specs;
  const std::size_t canonical = specs.size();
  for (std::size_t i = 0; i < canonical; i += 3) {
    specs.push_back(specs[i]);
    specs.back().values_layout = ValuesLayout::packed;
  }
  return specs;
}

/// Empty if all is right.
std::string try_problem(const ProblemSpec& spec, const Job& job, JobContext& context, bool repeat) {
  Problem problem(spec, context.device(), context.stream());
  problem.reset_output(context.stream());
  problem.run(context.stream());
  const std::string ran = last_kernel();
  const CheckResult check = problem.check(check_options(spec), context.stream());
  if (!check.ok) return check.sentence;
  if (!ran.empty() && ran != job.kernel) return fmt::format("{} ran instead", ran);
  if (!repeat) return "";
  const std::vector<unsigned char> first = problem.output_bytes(context.stream());
  for (int again = 0; again < 2; ++again) {
    problem.reset_output(context.stream());
    problem.run(context.stream());
    if (problem.output_bytes(context.stream()) != first) return "a second run gave other bits";
  }
  return "";
}

}  // namespace

ReceiptGrid run_grid(const Job& job, JobContext& context) {
  using Clock = std::chrono::steady_clock;
  ReceiptGrid grid;
  grid.op = job.op;
  grid.kernel = job.kernel;
  grid.family = job.family;
  grid.source_sha256 = job.source_sha256;
  grid.shared_memory_kb = job.shared_memory_kb;
  force_kernel(job.kernel);
  inject_fault(job, nullptr, context.device());
  const auto start = Clock::now();
  int index = 0;
  for (const ProblemSpec& spec : problems_of(job, context)) {
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (job.quick && seconds > kQuickSeconds) break;  // `cases` says how far it came
    std::string fault;
    try {
      fault = try_problem(spec, job, context, index++ % 4 == 0);
    } catch (const triage::Error& error) {
      if (error.code() == ErrorCode::cuda) throw;
      if (error.code() == ErrorCode::unsupported) {
        ++grid.refused;
        continue;
      }
      fault = error.what();
    }
    ++grid.cases;
    if (fault.empty()) continue;
    if (grid.failed++ == 0) grid.failure = fmt::format("{}: {}", spec.label(), fault);
  }
  if (grid.failed > 0) grid.outcome = Outcome::wrong;
  return grid;
}

}  // namespace triage::verdict
