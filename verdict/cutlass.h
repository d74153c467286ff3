// CUTLASS's kernels, from a module that is built where CMake finds CUTLASS's headers. Compiles without CUDA's.
#pragma once

#include <memory>
#include <string>

#include "verdict/cutlass_module.h"

namespace triage::verdict {

class Cutlass {
 public:
  /// The module, or nullptr. Kept until the process ends.
  static Cutlass* find();
  /// Why find() gives nullptr, and how to get it.
  static std::string absence();

  const std::string& version() const { return version_; }

  std::size_t gemm_workspace(const TriageCutlassGemm& call, bool hopper) { return workspace_(&call, hopper); }
  /// Enqueued on the call's stream; can be captured. @throws std::runtime_error with CUTLASS's word
  void gemm(const TriageCutlassGemm& call, bool hopper);
  void ell(const TriageCutlassEll& call);

 private:
  Cutlass() = default;

  std::string version_;
  triage_cutlass_gemm_function* gemm_ = nullptr;
  triage_cutlass_workspace_function* workspace_ = nullptr;
  triage_cutlass_ell_function* ell_ = nullptr;
};

}  // namespace triage::verdict
