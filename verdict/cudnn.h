// cuDNN's attention, from a module that is built where CMake finds cuDNN and the headers of its frontend. Compiles
// without CUDA's.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "verdict/cudnn_module.h"

namespace triage::verdict {

class Cudnn {
 public:
  /// The module, or nullptr. Kept until the process ends.
  static Cudnn* find();
  /// Why find() gives nullptr, and how to get it.
  static std::string absence();

  const std::string& version() const { return version_; }

  /// How cuDNN computes problems of one form.
  class Plan {
   public:
    std::size_t workspace_bytes() const { return workspace_bytes_; }
    /// Enqueued on the tensors' stream; can be captured. @throws std::runtime_error with cuDNN's word
    void run(const TriageCudnnTensors& tensors);

   private:
    friend class Cudnn;
    Plan() = default;
    Cudnn* cudnn_ = nullptr;
    std::shared_ptr<void> handle_;
    std::size_t workspace_bytes_ = 0;
  };
  /// For the current device. @throws std::runtime_error with cuDNN's word, e.g. where it has no kernel
  std::shared_ptr<Plan> plan(const TriageCudnnAttention& problem, bool backward);

 private:
  Cudnn() = default;
  [[noreturn]] void fail() const;

  std::string version_;
  triage_cudnn_plan_function* plan_ = nullptr;
  triage_cudnn_run_function* run_ = nullptr;
  triage_cudnn_destroy_function* destroy_ = nullptr;
  triage_cudnn_error_function* error_ = nullptr;
};

}  // namespace triage::verdict
