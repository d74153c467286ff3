// What the correctness grids of all operations share: which problems, how each is tried, how the outcome is counted.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "triage/error.h"
#include "triage/kernels.h"
#include "triage/triage.h"
#include "verdict/correctness.h"
#include "verdict/job.h"
#include "verdict/job_context.h"
#include "verdict/time_case.h"
#include "verdict/worker_fault.h"

namespace triage::verdict {

/// Seconds after which a quick grid stops; how far it came is in ReceiptGrid::cases.
inline constexpr double kQuickGridSeconds = 4;

/// Problems of a grid under compute-sanitizer, which makes kernels slower by a factor of ten and more.
inline constexpr std::size_t kSanitizedProblems = 12;

/// Most problems of a grid.
inline std::size_t grid_problems(const Job& job) {
  if (job.kind == JobKind::sanitize) return kSanitizedProblems;
  return job.quick ? 64 : 1000;
}

/// The registry's word on the job's kernel. @throws std::runtime_error if there is no such kernel.
inline KernelReport report_of(const Job& job, const JobContext& context) {
  for (const KernelReport& report : kernel_reports(context.device())) {
    if (report.name == job.kernel) return report;
  }
  throw std::runtime_error("there is no kernel " + job.kernel);
}

/// An even choice of at most `most` problems, the same in every run.
template <class Spec>
std::vector<Spec> choose_evenly(std::vector<Spec> all, std::size_t most) {
  if (all.size() <= most) return all;
  std::vector<Spec> chosen;
  const double step = static_cast<double>(all.size()) / static_cast<double>(most);
  for (std::size_t i = 0; i < most; ++i) {
    chosen.push_back(std::move(all[static_cast<std::size_t>(static_cast<double>(i) * step)]));
  }
  return chosen;
}

/// Runs one problem and has the oracle judge it; with `repeat` twice more, for equal bits. Empty if all is right.
template <class Problem, class Spec, class OptionsOf>
std::string try_problem(const Spec& spec, const OptionsOf& options_of, const Job& job, JobContext& context,
                        bool repeat) {
  Problem problem(spec, context.device(), context.stream());
  problem.reset_output(context.stream());
  problem.run(context.stream());
  const std::string ran = last_kernel();
  const CheckResult check = problem.check(options_of(spec), context.stream());
  if (!check.ok) return check.sentence;
  if (!ran.empty() && ran != job.kernel) return fmt::format("{} ran instead", ran);
  if constexpr (requires { spec.deterministic; }) repeat = repeat && spec.deterministic;
  if (!repeat) return "";
  const std::vector<unsigned char> first = problem.output_bytes(context.stream());
  for (int again = 0; again < 2; ++again) {
    problem.reset_output(context.stream());
    problem.run(context.stream());
    if (problem.output_bytes(context.stream()) != first) return "a second run gave other bits";
  }
  return "";
}

/// Tries every problem with the job's kernel, each fourth for equal bits as well. What the kernel refuses is counted
/// apart.
/// @tparam Problem made of a Spec, a device and a stream; with reset_output, run, check and output_bytes.
/// @param options_of what a problem of a Spec is judged by.
template <class Problem, class Spec, class OptionsOf>
ReceiptGrid run_problems(const Job& job, JobContext& context, const std::vector<Spec>& specs,
                         const OptionsOf& options_of) {
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
  for (const Spec& spec : specs) {
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (job.quick && seconds > kQuickGridSeconds) break;
    std::string fault;
    try {
      fault = try_problem<Problem>(spec, options_of, job, context, index++ % 4 == 0);
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
