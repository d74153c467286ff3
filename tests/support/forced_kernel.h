// TRIAGE_FORCE_KERNEL for the length of a scope.
#pragma once

#include <cstdlib>
#include <string>

namespace triage::testing {

class ForcedKernel {
 public:
  explicit ForcedKernel(const std::string& name) { setenv("TRIAGE_FORCE_KERNEL", name.c_str(), 1); }
  ~ForcedKernel() { unsetenv("TRIAGE_FORCE_KERNEL"); }
  ForcedKernel(const ForcedKernel&) = delete;
  ForcedKernel& operator=(const ForcedKernel&) = delete;
};

}  // namespace triage::testing
