#include "verdict/attention_jobs.h"

#include <fmt/format.h>

#include <cstring>
#include <stdexcept>
#include <utility>

#include "registry/attention_registry.h"
#include "verdict/attention_cases.h"
#include "verdict/attention_timed_problem.h"
#include "verdict/grid_run.h"
#include "verdict/job_identity.h"
#include "verdict/peers.h"
#include "verdict/time_case.h"
#include "verdict/timed_problem.h"
#include "verdict/work.h"
#include "verdict/worker_fault.h"

#if TRIAGE_HAS_CUDA
#include "verdict/gpu_kernels.h"
#endif

namespace triage::verdict {
namespace {

constexpr int kRandomCases = 150;  // for each dtype, on top of the edge cases
/// What the oracle may spend on one timed problem, in multiply-adds: a second or so; beyond it checks a share of the
/// rows.
constexpr double kOracleOperations = 5e8;

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

template <class Problem>
PeerList peers_of(const Job& job, Problem& problem, JobContext& context) {
  PeerList peers;
#if TRIAGE_HAS_CUDA
  if (context.cuda()) peers = attention_peers(problem, flops(job.op, job.shape));
  try_peers(peers, context);
#else
  (void)job, (void)problem;
#endif
  peers.absent.push_back({context.cuda() ? "attention of torch (flash, cuDNN), FA2, FA3, FA4" : "attention of torch",
                          "they are reached through Python: bench/attention_peers.py times them beside this program"});
  return peers;
}

}  // namespace

ReceiptGrid run_attention_grid(const Job& job, JobContext& context) {
  const KernelReport kernel = report_of(job, context);
  const int random = job.quick ? 0 : kRandomCases;
  const auto options_of = [](const AttentionSpec& spec) { return attention_check_options(spec); };
  if (job.op == kAttentionBackward) {
    const std::vector<AttentionBackwardSpec> specs =
        choose_evenly(attention_backward_cases_of_kernel(kernel, random, job.seed), grid_problems(job));
    return run_problems<GuardedAttentionBackward>(job, context, specs, options_of);
  }
  const std::vector<AttentionSpec> specs =
      choose_evenly(attention_cases_of_kernel(kernel, random, job.seed), grid_problems(job));
  return run_problems<GuardedAttention>(job, context, specs, options_of);
}

namespace {

template <class Problem>
ReceiptCase time_problem(const Job& job, JobContext& context) {
  force_kernel(job.kernel);
  bench::AttentionShape shape = job.shape.attention.value();
  shape.dtype = job.dtype;
  const int copies = copies_for(compulsory_bytes(job.op, job.shape, job.dtype), context.cache_bytes());
  Problem problem(shape, context.device(), job.seed, copies, context.stream());
  ReceiptCase result;
  take_identity(result, job);

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
  PeerList peers;
  if (job.peers) peers = peers_of(job, problem, context);
  problem.poison_outputs();
  context.synchronize();
  context.clock_note();  // what came before is not this case's

  std::vector<Contender> contenders{{job.kernel, [&](int copy) { problem.run(copy); }}};
  for (const Peer& peer : peers.present) contenders.push_back({peer.name, peer.run});
  const std::unique_ptr<Stopwatch> stopwatch = context.make_stopwatch();
  const std::vector<ReceiptTime> times = time_alternating(contenders, *stopwatch, context.timing_plan(job.quick));
  result.time = times.front();
  for (int copy = 0; copy < problem.copies(); ++copy) problem.run(copy);  // a copy that no timed call reached
  context.synchronize();
  result.correct.rechecked_after_timing = true;
  for (int copy = 0; copy < problem.copies(); ++copy) {
    std::string fault;
    if (shape.any_order) {
      const CheckResult check = problem.check(copy, kOracleOperations, job.seed);
      if (!check.ok) fault = "after the timed calls: " + check.sentence;
    } else if (!same_bytes(kept.data(), problem.output(copy), problem.output_bytes(), context)) {
      fault = "after the timed calls the output has other bits than before";
    }
    if (fault.empty()) continue;
    result.time.reset();
    set_failure(result, fault);
    return result;
  }

  result.operand_copies = problem.copies();
  result.tflops = tflops(flops(job.op, job.shape), result.time->median);
  const Roof roof = roof_of(job.op, job.shape, job.dtype, job.family, job.device);
  result.roof_tflops = roof.tflops;
  result.roof_limit = roof.limit;
  for (std::size_t i = 0; i < peers.present.size(); ++i) {
    result.peers.push_back(timed_peer(peers.present[i], times[i + 1]));
  }
  result.not_measured = std::move(peers.absent);
  add_note(result.note, context.clock_note());
  if (spread(*result.time) > kNotedSpread) {
    add_note(result.note, fmt::format("spread of our time {:.0f}% of its median", 100 * spread(*result.time)));
  }
  return result;
}

}  // namespace

ReceiptCase time_attention(const Job& job, JobContext& context) {
  return job.op == kAttentionBackward ? time_problem<TimedAttentionBackward>(job, context)
                                      : time_problem<TimedAttention>(job, context);
}

}  // namespace triage::verdict
