// The worker process: jobs in, answers out, one JSON object a line.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "triage/error.h"
#include "registry/attention_registry.h"
#include "verdict/attention_jobs.h"
#include "verdict/correctness_grid.h"
#include "verdict/job.h"
#include "verdict/machine_limits.h"
#include "verdict/profile_case.h"
#include "verdict/time_case.h"

namespace triage::verdict {
namespace {

Json answer_to(const Job& job) {
  if (job.user.given()) load_user_kernel(job.user);
  JobContext context(job);
  const bool attention = job.op == kAttentionForward || job.op == kAttentionBackward;
  switch (job.kind) {
    case JobKind::device: return to_json(measure_machine(job, context));
    case JobKind::grid:
    case JobKind::sanitize: return to_json(attention ? run_attention_grid(job, context) : run_grid(job, context));
    case JobKind::timing: return to_json(attention ? time_attention(job, context) : time_case(job, context));
    case JobKind::crossover: return to_json(find_crossover(job, context));
    case JobKind::profile: return to_json(run_for_profiler(job, context));
  }
  throw std::runtime_error("job kind is not known");
}

/// The answer to one job as JSON text; `sticky` is set where the process must end.
std::string answer_text(const std::string& job, bool& sticky) {
  Json answer;
  sticky = false;
  try {
    answer["result"] = answer_to(job_from_json(Json::parse(job)));
  } catch (const triage::Error& error) {
    sticky = error.code() == ErrorCode::cuda;
    // No room for the problem, or a problem that this kernel says it does not take: nothing went wrong.
    const bool refused = error.code() == ErrorCode::out_of_memory || error.code() == ErrorCode::unsupported;
    answer = {{refused ? "refused" : "error", error.what()}, {"sticky", sticky}};
  } catch (const std::exception& error) {
    answer = {{"error", error.what()}, {"sticky", false}};
  }
  return answer.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

int run_one_job(const char* job_file, const char* answer_file) {
  std::ifstream input(job_file);
  std::stringstream job;
  job << input.rdbuf();
  bool sticky = false;
  const std::string answer = answer_text(job.str(), sticky);
  std::ofstream output(answer_file);
  output << answer << std::flush;
  return input && output ? 0 : 1;
}

int run_worker() {
  // Answers go to what was standard output; whatever a library prints goes to standard error.
  std::FILE* answers = ::fdopen(::dup(STDOUT_FILENO), "w");
  if (!answers || ::dup2(STDERR_FILENO, STDOUT_FILENO) < 0) return 1;
  for (std::string line; std::getline(std::cin, line);) {
    bool sticky = false;
    fmt::print(answers, "{}\n", answer_text(line, sticky));
    std::fflush(answers);
    if (sticky) break;
  }
  // Not exit(): destructors of GPU libraries are no business of a process that is done.
  std::_Exit(0);
}

}  // namespace triage::verdict
