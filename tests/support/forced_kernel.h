// TRIAGE_FORCE_KERNEL for the length of a scope.
#pragma once

#include <cstdlib>
#include <string>

namespace triage::testing {

class ForcedKernel {
 public:
  explicit ForcedKernel(const std::string& name) {
    if (const char* before = std::getenv(kVariable)) before_ = before;
    setenv(kVariable, name.c_str(), 1);
  }
  ~ForcedKernel() { before_.empty() ? unsetenv(kVariable) : setenv(kVariable, before_.c_str(), 1); }
  ForcedKernel(const ForcedKernel&) = delete;
  ForcedKernel& operator=(const ForcedKernel&) = delete;

 private:
  static constexpr const char* kVariable = "TRIAGE_FORCE_KERNEL";
  std::string before_;  // scopes may lie within one another
};

}  // namespace triage::testing
