#include "verdict/time_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "bench/shapes.h"
#include "triage/triage.h"
#include "verdict/correctness.h"
#include "verdict/peers.h"
#include "verdict/timed_problem.h"
#include "verdict/worker_fault.h"
#include "verdict/work.h"

#if TRIAGE_HAS_CUDA
#include "verdict/gpu_kernels.h"
#endif

namespace triage::verdict {
namespace {

/// What the oracle may spend on one problem on the CPU, in operations of the problem; beyond it checks a share.
constexpr double kOracleOperations = 4e9;
/// Operands of so few columns are read once: their time is memory's, and a cache must not help.
constexpr std::int64_t kFewColumns = 64;

TimedProblem make_problem(const Job& job, const ReceiptShape& shape, JobContext& context) {
  TimedProblem::Request request{job.op, job.dtype, shape, context.device(), job.seed, 1, context.stream()};
  bench::HostPattern pattern = TimedProblem::pattern_of(request);
  ReceiptShape sized = shape;
  sized.nnz_blocks = pattern.nnz_blocks();
  request.copies = timing_copies(job.op, job.dtype, sized, context);
  return TimedProblem(request, std::move(pattern));
}

/// Judges an output against the oracle, and remembers it, so that the second look after timing is a comparison of bytes.
class OutputJudge {
 public:
  OutputJudge(TimedProblem& problem, JobContext& context, const Job& job)
      : problem_(problem), context_(context), job_(job) {}

  ReceiptCorrect first_look() {
    const CheckResult check = judge();
    keep();
    return {check.ok, check.worst_block_ratio, check.frobenius, check.bound, check.checked, false,
            check.ok ? "" : check.sentence};
  }

  /// After the timed calls: every copy's output must be what the first look found right; if its bytes differ, it is judged.
  void second_look(ReceiptCorrect& correct) {
    correct.rechecked_after_timing = true;
    for (int copy = 0; copy < problem_.copies(); ++copy) {
      if (same_as_kept(copy)) continue;
      const CheckResult check = judge(copy);
      if (check.ok) continue;
      correct.ok = false;
      correct.detail = "after the timed calls: " + check.sentence;
      return;
    }
  }

 private:
  CheckResult judge(int copy = 0) {
    const SparseGemmCall call = problem_.oracle_call(copy);
#if TRIAGE_HAS_CUDA
    if (context_.cuda()) return gpu_check_result(call, context_.stream());
#endif
    CheckOptions options;
    options.seed = job_.seed;
    options.share = std::min(1.0, kOracleOperations / std::max(1.0, flops(problem_.request().op, problem_.shape())));
    return check_result(call, problem_.output(copy), options);
  }

  void keep() {
    kept_ = Buffer(context_.device(), std::max<std::size_t>(problem_.output_bytes(), 1), context_.stream());
    copy_bytes(kept_.data(), context_.device(), problem_.output(0), context_.device(), problem_.output_bytes(),
               context_.stream(), "copy of the output");
    context_.synchronize();
  }

  bool same_as_kept(int copy) {
#if TRIAGE_HAS_CUDA
    if (context_.cuda()) {
      return gpu_same_bytes(kept_.data(), problem_.output(copy), problem_.output_bytes(), context_.stream());
    }
#endif
    return std::memcmp(kept_.data(), problem_.output(copy), problem_.output_bytes()) == 0;
  }

  TimedProblem& problem_;
  JobContext& context_;
  const Job& job_;
  Buffer kept_;
};

PeerList peers_of(TimedProblem& problem, JobContext& context, bool dense_only) {
#if TRIAGE_HAS_CUDA
  if (context.cuda()) {
    const std::unique_ptr<Stopwatch> stopwatch = context.make_stopwatch();
    return gpu_peers(problem, *stopwatch, dense_only);
  }
#endif
  (void)dense_only;
  return cpu_peers(problem, context.threads());
}

void require_kernel(const Job& job) {
  if (last_kernel() == job.kernel) return;
  throw std::runtime_error(fmt::format("asked for {}, but {} ran", job.kernel,
                                       last_kernel().empty() ? "no kernel" : last_kernel()));
}

}  // namespace

int timing_copies(const std::string& op, const std::string& dtype, const ReceiptShape& shape, const JobContext& context) {
  if (!context.cuda() && (op == "sparse_gemm.sddmm" || shape.n > kFewColumns)) return 1;
  return copies_for(compulsory_bytes(op, shape, dtype), context.cache_bytes());
}

void force_kernel(const std::string& name) { ::setenv("TRIAGE_FORCE_KERNEL", name.c_str(), 1); }

ReceiptCase time_case(const Job& job, JobContext& context) {
  force_kernel(job.kernel);
  TimedProblem problem = make_problem(job, job.shape, context);
  ReceiptCase result;
  result.op = job.op;
  result.kernel = job.kernel;
  result.family = job.family;
  result.source_sha256 = job.source_sha256;
  result.dtype = job.dtype;
  result.shape = problem.shape();
  result.shared_memory_kb = job.shared_memory_kb;

  problem.poison_outputs();
  problem.run(0);
  context.synchronize();
  require_kernel(job);
  inject_fault(job, problem.output(0), context.device());
  OutputJudge judge(problem, context, job);
  result.correct = judge.first_look();
  if (!result.correct.ok) {
    result.outcome = Outcome::wrong;
    result.failure = result.correct.detail;
    return result;
  }

  PeerList peers;
  if (job.peers) peers = peers_of(problem, context, false);
  try_peers(peers, context);

  std::vector<Contender> contenders{{job.kernel, [&](int copy) { problem.run(copy); }}};
  for (const Peer& peer : peers.present) contenders.push_back({peer.name, peer.run});
  problem.poison_outputs();
  context.synchronize();
  context.clock_note();  // what came before is not this case's
  const std::unique_ptr<Stopwatch> stopwatch = context.make_stopwatch();
  const std::vector<ReceiptTime> times = time_alternating(contenders, *stopwatch, context.timing_plan(job.quick));
  for (int copy = 0; copy < problem.copies(); ++copy) problem.run(copy);  // a copy that no timed call reached
  context.synchronize();
  judge.second_look(result.correct);
  if (!result.correct.ok) {
    result.outcome = Outcome::wrong;
    result.failure = result.correct.detail;
    return result;
  }

  result.time = times.front();
  result.operand_copies = problem.copies();
  result.tflops = tflops(flops(job.op, result.shape), result.time->median);
  for (std::size_t i = 0; i < peers.present.size(); ++i) {
    result.peers.push_back(timed_peer(peers.present[i], times[i + 1]));
  }
  // Between contenders that draw less power a dense product may run faster than on its own: what it reached, it reached.
  ReceiptDevice limits = job.device;
  for (const ReceiptPeer& peer : result.peers) limits.dense_fp16_tflops = std::max(limits.dense_fp16_tflops, peer.tflops);
  const Roof roof = roof_of(job.op, result.shape, job.dtype, job.family, context.cuda() ? limits : job.device);
  result.roof_tflops = roof.tflops;
  result.roof_limit = roof.limit;
  result.not_measured = std::move(peers.absent);
  add_note(result.note, context.clock_note());
  if (spread(*result.time) > kNotedSpread) {
    add_note(result.note, fmt::format("spread of our time {:.0f}% of its median", 100 * spread(*result.time)));
  }
  return result;
}

void place_crossover(ReceiptCrossover& crossover) {
  const auto& points = crossover.points;
  crossover.relation.clear();
  crossover.density = 0;
  if (points.empty()) return;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const auto& [density, ms] = points[i];
    if (ms <= crossover.dense_ms) continue;
    if (i == 0) {
      crossover.density = density;
      crossover.relation = "below";
      return;
    }
    const auto& [low_density, low_ms] = points[i - 1];
    crossover.density = low_density + (density - low_density) * (crossover.dense_ms - low_ms) / (ms - low_ms);
    crossover.relation = "at";
    return;
  }
  crossover.density = points.back().first;
  crossover.relation = "above";
}

ReceiptCrossover find_crossover(const Job& job, JobContext& context) {
  force_kernel(job.kernel);
  ReceiptCrossover result;
  result.op = job.op;
  result.kernel = job.kernel;
  result.dtype = job.dtype;
  result.block = job.shape.block;
  result.size = job.shape.m;
  result.shared_memory_kb = job.shared_memory_kb;
  TimingPlan plan = context.timing_plan(job.quick);
  plan.budget_ms /= 2;
  for (double density : bench::crossover_densities()) {
    ReceiptShape shape = job.shape;
    shape.density = density;
    TimedProblem problem = make_problem(job, shape, context);
    std::vector<Contender> contenders{{job.kernel, [&](int copy) { problem.run(copy); }}};
    PeerList peers;
    if (result.points.empty()) {
      peers = peers_of(problem, context, true);
      problem.run(0);
      try_peers(peers, context);
      if (peers.present.empty()) {
        throw std::runtime_error(peers.absent.empty() ? "there is no dense peer"
                                                      : peers.absent[0].name + ": " + peers.absent[0].reason);
      }
      contenders.push_back({peers.present[0].name, peers.present[0].run});
    }
    const std::unique_ptr<Stopwatch> stopwatch = context.make_stopwatch();
    const std::vector<ReceiptTime> times = time_alternating(contenders, *stopwatch, plan);
    require_kernel(job);
    if (result.points.empty()) {
      result.dense_peer = peers.present[0].name;
      result.dense_ms = times[1].median;
    }
    // The pattern's own density is what the time belongs to.
    const bench::HostPattern& pattern = problem.host_pattern();
    result.points.emplace_back(static_cast<double>(pattern.nnz_blocks()) /
                                   (static_cast<double>(pattern.block_rows) * static_cast<double>(pattern.block_cols)),
                               times[0].median);
    if (times[0].median > result.dense_ms) break;
  }
  place_crossover(result);
  return result;
}

}  // namespace triage::verdict
