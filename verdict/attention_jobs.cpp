#include "verdict/attention_jobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include "verdict/attention_cases.h"
#include "verdict/attention_timed_problem.h"
#include "verdict/time_case.h"
#include "verdict/timed_problem.h"
#include "verdict/work.h"
#include "verdict/worker_fault.h"

#if TRIAGE_HAS_CUDA
#include "verdict/gpu_kernels.h"
#endif

namespace triage::verdict {
namespace {

constexpr std::size_t kQuickProblems = 64;
constexpr std::size_t kProblems = 1000;
constexpr int kRandomCases = 150;  // for each dtype, on top of the edge cases
constexpr double kQuickSeconds = 4;
/// What the oracle may spend on one timed problem, in multiply-adds: a second or so; beyond it checks a share of the
/// rows.
constexpr double kOracleOperations = 5e8;

KernelReport report_of(const Job& job, const JobContext& context) {
  for (const KernelReport& report : kernel_reports(context.device())) {
    if (report.name == job.kernel) return report;
  }
  throw std::runtime_error("there is no kernel " + job.kernel);
}

/// An even choice of at most `most` problems, the same in every run.
std::vector<AttentionSpec> choose(std::vector<AttentionSpec> all, std::size_t most) {
  if (all.size() <= most) return all;
  std::vector<AttentionSpec> chosen;
  const double step = static_cast<double>(all.size()) / static_cast<double>(most);
  for (std::size_t i = 0; i < most; ++i) {
    chosen.push_back(std::move(all[static_cast<std::size_t>(static_cast<double>(i) * step)]));
  }
  return chosen;
}

/// Empty if all is right.
std::string try_problem(const AttentionSpec& spec, const Job& job, JobContext& context, bool repeat) {
  GuardedAttention problem(spec, context.device(), context.stream());
  problem.run(context.stream());
  const std::string ran = last_kernel();
  const CheckResult check = problem.check(attention_check_options(spec), context.stream());
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

bool same_bytes(const void* a, const void* b, std::size_t bytes, JobContext& context) {
#if TRIAGE_HAS_CUDA
  if (context.cuda()) return gpu_same_bytes(a, b, bytes, context.stream());
#endif
  (void)context;
  return std::memcmp(a, b, bytes) == 0;
}

void set_failure(ReceiptCase& result, const std::string& detail) {
  result.correct.ok = false;
  result.correct.detail = detail;
  result.outcome = Outcome::wrong;
  result.failure = detail;
}

void add_note(std::string& note, const std::string& text) {
  if (!text.empty()) note += (note.empty() ? "" : "; ") + text;
}

}  // namespace

ReceiptGrid run_attention_grid(const Job& job, JobContext& context) {
  using Clock = std::chrono::steady_clock;
  ReceiptGrid grid;
  grid.op = job.op;
  grid.kernel = job.kernel;
  grid.family = job.family;
  grid.source_sha256 = job.source_sha256;
  grid.shared_memory_kb = job.shared_memory_kb;
  force_kernel(job.kernel);
  inject_fault(job, nullptr, context.device());
  const std::vector<AttentionSpec> specs =
      choose(attention_cases_of_kernel(report_of(job, context), job.quick ? 0 : kRandomCases, job.seed),
             job.quick ? kQuickProblems : kProblems);
  const auto start = Clock::now();
  int index = 0;
  for (const AttentionSpec& spec : specs) {
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

ReceiptCase time_attention(const Job& job, JobContext& context) {
  force_kernel(job.kernel);
  bench::AttentionShape shape = job.shape.attention.value();
  shape.dtype = job.dtype;
  const int copies = copies_for(compulsory_bytes(job.op, job.shape, job.dtype), context.cache_bytes());
  TimedAttention problem(shape, context.device(), job.seed, copies, context.stream());
  ReceiptCase result;
  result.op = job.op;
  result.kernel = job.kernel;
  result.family = job.family;
  result.source_sha256 = job.source_sha256;
  result.dtype = job.dtype;
  result.shape = job.shape;
  result.shared_memory_kb = job.shared_memory_kb;

  problem.poison_outputs();
  problem.run(0);
  context.synchronize();
  if (last_kernel() != job.kernel) {
    throw std::runtime_error(fmt::format("asked for {}, but {} ran", job.kernel, last_kernel()));
  }
  inject_fault(job, problem.output(0), context.device());
  const CheckResult first = problem.check(0, kOracleOperations, job.seed);
  result.correct = {first.ok, first.worst_block_ratio, first.frobenius, first.bound, first.checked, false, ""};
  if (!first.ok) {
    set_failure(result, first.sentence);
    return result;
  }
  Buffer kept(context.device(), problem.output_bytes(), context.stream());
  copy_bytes(kept.data(), context.device(), problem.output(0), context.device(), problem.output_bytes(),
             context.stream(), "copy of the output");
  problem.poison_outputs();
  context.synchronize();
  context.clock_note();  // what came before is not this case's

  const std::vector<Contender> contenders{{job.kernel, [&](int copy) { problem.run(copy); }}};
  const std::unique_ptr<Stopwatch> stopwatch = context.make_stopwatch();
  result.time = time_alternating(contenders, *stopwatch, context.timing_plan(job.quick)).front();
  for (int copy = 0; copy < problem.copies(); ++copy) problem.run(copy);  // a copy that no timed call reached
  context.synchronize();
  result.correct.rechecked_after_timing = true;
  for (int copy = 0; copy < problem.copies(); ++copy) {
    if (same_bytes(kept.data(), problem.output(copy), problem.output_bytes(), context)) continue;
    result.time.reset();
    set_failure(result, "after the timed calls the output has other bits than before");
    return result;
  }

  result.operand_copies = problem.copies();
  result.tflops = tflops(flops(job.op, job.shape), result.time->median);
  const Roof roof = roof_of(job.op, job.shape, job.dtype, job.family, job.device);
  result.roof_tflops = roof.tflops;
  result.roof_limit = roof.limit;
  if (job.peers) {
    result.not_measured.push_back(
        {context.cuda() ? "attention of torch (flash, cuDNN), FA2, FA3, FA4" : "attention of torch",
         "they are reached through Python: bench/attention_peers.py times them beside this program"});
  }
  add_note(result.note, context.clock_note());
  if (spread(*result.time) > kNotedSpread) {
    add_note(result.note, fmt::format("spread of our time {:.0f}% of its median", 100 * spread(*result.time)));
  }
  return result;
}

}  // namespace triage::verdict
