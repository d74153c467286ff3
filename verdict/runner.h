// Runs jobs in worker processes: a hang, a crash or a sticky CUDA error becomes an answer, and the next job gets a fresh
// worker. Jobs that go well share one worker, since starting one costs a CUDA context.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "verdict/child_process.h"
#include "verdict/job.h"

namespace triage::verdict {

struct Answer {
  Outcome outcome = Outcome::ok;  ///< never `wrong`: that is for the job's result to say
  std::string failure;            ///< a sentence if the outcome is not ok
  Json result;                    ///< null if it is not, or if the job was refused
  std::string refusal;            ///< a sentence if the kernel does not take the problem or there is no room for it
};

class Runner {
 public:
  /// @param environment added to the workers' environment.
  /// @param tick called about ten times a second while a job runs.
  Runner(Environment environment, double timeout_seconds, std::function<void()> tick);
  ~Runner();

  Answer run(const Job& job);

 private:
  Environment environment_;
  double timeout_seconds_;
  std::function<void()> tick_;
  std::unique_ptr<ChildProcess> worker_;
};

}  // namespace triage::verdict
