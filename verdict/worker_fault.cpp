#include "verdict/worker_fault.h"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <stdexcept>

#include "device/memory.h"
#include "triage/error.h"

namespace triage::verdict {

bool faults_planted() {
  const char* value = std::getenv(kFaultVariable);
  return value != nullptr && *value != '\0';
}

bool evidence_on_cpu() {
  const char* value = std::getenv(kEvidenceOnCpuVariable);
  return value != nullptr && *value != '\0';
}

void inject_fault(const Job& job, void* output, DLDevice device) {
  if (!faults_planted()) return;
  const std::string fault = std::getenv(kFaultVariable);
  const auto is = [&](const char* kind) {
    return fault == fmt::format("{}:{}:{}", kind, job.kernel, job.shape.block);
  };
  if (is("hang")) {
    for (;;) ::pause();
  }
  if (is("crash")) std::raise(SIGSEGV);
  if (is("throw")) throw std::runtime_error("a planted error");
  if (is("sticky")) throw triage::Error(ErrorCode::cuda, "a planted CUDA error");
  if (is("wrong") && output) {
    const float junk[4] = {12345.0f, 12345.0f, 12345.0f, 12345.0f};
    copy_bytes(output, device, junk, {kDLCPU, 0}, sizeof junk, nullptr, "planted wrong result");
    synchronize(device, nullptr);
  }
}

}  // namespace triage::verdict
