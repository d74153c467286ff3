#include "verdict/profile_case.h"

#include <fmt/format.h>

#include <functional>
#include <stdexcept>

#include "registry/attention_registry.h"
#include "triage/triage.h"
#include "verdict/attention_timed_problem.h"
#include "verdict/job_identity.h"
#include "verdict/time_case.h"
#include "verdict/timed_problem.h"
#include "verdict/worker_fault.h"

#if TRIAGE_HAS_CUDA
#include <cuda_profiler_api.h>

#include "device/cuda_check.h"
#endif

namespace triage::verdict {
namespace {

// Nothing on the CPU: a build with CUDA runs there, too, and then may have no driver to tell.
void mark_profiled_range([[maybe_unused]] const JobContext& context, [[maybe_unused]] bool begin) {
#if TRIAGE_HAS_CUDA
  if (!context.cuda()) return;
  cuda_check(begin ? cudaProfilerStart() : cudaProfilerStop(), "the profiler's mark");
#endif
}

void profile_call(const Job& job, JobContext& context, const std::function<void()>& call) {
  call();
  context.synchronize();
  if (last_kernel() != job.kernel) {
    throw std::runtime_error(fmt::format("asked for {}, but {} ran", job.kernel, last_kernel()));
  }
  mark_profiled_range(context, true);
  call();
  context.synchronize();
  mark_profiled_range(context, false);
}

}  // namespace

ReceiptProfile run_for_profiler(const Job& job, JobContext& context) {
  force_kernel(job.kernel);
  inject_fault(job, nullptr, context.device());
  ReceiptProfile profile;
  take_identity(profile, job);
  if (job.shape.attention) {
    bench::AttentionShape shape = *job.shape.attention;
    shape.dtype = job.dtype;
    const auto profile_problem = [&](auto problem) {
      problem.poison_outputs();
      profile_call(job, context, [&] { problem.run(0); });
    };
    if (job.op == kAttentionBackward) {
      profile_problem(TimedAttentionBackward(shape, context.device(), job.seed, 1, context.stream()));
    } else {
      profile_problem(TimedAttention(shape, context.device(), job.seed, 1, context.stream()));
    }
    return profile;
  }
  const TimedProblem::Request request{job.op, job.dtype, job.shape, context.device(), job.seed, 1, context.stream()};
  TimedProblem problem(request, TimedProblem::pattern_of(request));
  problem.poison_outputs();
  profile_call(job, context, [&] { problem.run(0); });
  profile.shape = problem.shape();
  return profile;
}

}  // namespace triage::verdict
