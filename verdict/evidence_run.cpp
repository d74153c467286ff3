#include "verdict/evidence_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>

#include "verdict/evidence_report.h"
#include "verdict/profiler.h"
#include "verdict/sanitizer.h"

namespace triage::verdict {
namespace {

constexpr const char* kGetThem =
    "it comes with the CUDA toolkit, and is looked for in PATH, under CUDA_HOME and in /usr/local/cuda/bin";

/// compute-sanitizer's processes at a time: most of their time passes on the host, and nothing is timed.
std::size_t sanitizers_at_once() { return std::clamp<std::size_t>(std::thread::hardware_concurrency() / 2, 1, 8); }

struct SanitizerStep {
  const Job* job;
  std::string tool;
};

void run_sanitizers(const std::vector<SanitizerStep>& steps, const ExternalTool& sanitizer,
                    const Environment& environment, double timeout_seconds, Progress& progress, Receipt& receipt,
                    std::vector<std::string>& remarks) {
  std::vector<std::optional<ReceiptSanitizer>> results(steps.size());
  std::vector<std::string> failures(steps.size());
  std::atomic<std::size_t> next{0}, ended{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < steps.size(); i = next++) {
      try {
        results[i] = sanitize(sanitizer, steps[i].tool, *steps[i].job, environment, timeout_seconds);
      } catch (const std::exception& error) {
        failures[i] = error.what();
      }
      ++ended;
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < std::min(sanitizers_at_once(), steps.size()); ++i) threads.emplace_back(work);
  progress.begin("compute-sanitizer");
  for (std::size_t told = 0; told < steps.size();) {
    while (told < ended) {
      progress.end(fmt::format("compute-sanitizer: {} of {}", ++told, steps.size()));
      progress.begin("compute-sanitizer");
    }
    progress.tick();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (results[i]) {
      receipt.sanitizer.push_back(*results[i]);
    } else {
      remarks.push_back(fmt::format("{} of {}: {}", steps[i].tool, steps[i].job->kernel, failures[i]));
    }
  }
}

void run_profiles(const std::vector<const Job*>& jobs, const ExternalTool& ncu, const Environment& environment,
                  double timeout_seconds, Progress& progress, Receipt& receipt, std::vector<std::string>& remarks) {
  for (const Job* job : jobs) {
    progress.begin("profile of " + job->kernel);
    const ProfileAnswer answer = profile(ncu, *job, environment, timeout_seconds);
    if (!answer.unavailable.empty()) {
      remarks.push_back("nothing was profiled: " + answer.unavailable);
      progress.end(remarks.back());
      return;  // the next one would say the same
    }
    if (!answer.refusal.empty()) {
      remarks.push_back(fmt::format("the profile of {} was left out: {}", job->kernel, answer.refusal));
      progress.end(remarks.back());
      continue;
    }
    receipt.profiles.push_back(*answer.profile);
    progress.end(profile_sentence(*answer.profile));
  }
}

}  // namespace

int evidence_steps(const std::vector<Job>& jobs) {
  int steps = 0;
  for (const Job& job : jobs) {
    if (job.kind == JobKind::sanitize) steps += static_cast<int>(sanitizer_tools().size());
    if (job.kind == JobKind::profile) ++steps;
  }
  return steps;
}

void gather_evidence(const std::vector<Job>& jobs, const Environment& environment, double timeout_seconds,
                     Progress& progress, Receipt& receipt, std::vector<std::string>& remarks) {
  std::vector<SanitizerStep> steps;
  std::vector<const Job*> profiles;
  for (const Job& job : jobs) {
    if (job.kind == JobKind::profile) profiles.push_back(&job);
    if (job.kind != JobKind::sanitize) continue;
    for (const std::string& tool : sanitizer_tools()) steps.push_back({&job, tool});
  }
  const auto find = [&](const char* name, const char* what) {
    ExternalTool tool = find_external_tool(name);
    if (!tool) remarks.push_back(fmt::format("{}: {} was not found; {}", what, name, kGetThem));
    return tool;
  };
  if (!steps.empty()) {
    if (const ExternalTool sanitizer = find("compute-sanitizer", "nothing was run under compute-sanitizer")) {
      run_sanitizers(steps, sanitizer, environment, timeout_seconds, progress, receipt, remarks);
    }
  }
  if (!profiles.empty()) {
    if (const ExternalTool ncu = find("ncu", "nothing was profiled")) {
      run_profiles(profiles, ncu, environment, timeout_seconds, progress, receipt, remarks);
    }
  }
}

}  // namespace triage::verdict
