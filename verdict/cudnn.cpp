#include "verdict/cudnn.h"

#include <dlfcn.h>

#include <stdexcept>

#include "verdict/cublas.h"
#include "verdict/dynamic_library.h"
#include "verdict/own_files.h"

namespace triage::verdict {
namespace {

constexpr const char* kFile = "libtriage_cudnn.so";

std::string load_error;  // of the module

/// The module with the cuDNN that it was linked to or, where that is not there, with one out of Python's packages.
DynamicLibrary open_module(const std::string& path) {
  if (DynamicLibrary library = DynamicLibrary::open_first({path})) return library;
  DynamicLibrary::open_first(cuda_library_candidates("nvrtc", {13, 12}));
  DynamicLibrary::open_first(in_python_packages("nvidia/cudnn/lib/libcudnn.so.9"));
  DynamicLibrary library = DynamicLibrary::open_first({path});
  if (const char* error = library ? nullptr : ::dlerror()) load_error = error;
  return library;
}

}  // namespace

Cudnn* Cudnn::find() {
  static Cudnn* const found = []() -> Cudnn* {
    const std::string path = own_file(kFile);
    if (path.empty()) return nullptr;
    const DynamicLibrary library = open_module(path);
    if (!library) return nullptr;
    auto* const version = library.function<triage_cudnn_version_function>("triage_cudnn_version");
    auto* const cudnn = new Cudnn;
    cudnn->plan_ = library.function<triage_cudnn_plan_function>("triage_cudnn_plan");
    cudnn->run_ = library.function<triage_cudnn_run_function>("triage_cudnn_run");
    cudnn->destroy_ = library.function<triage_cudnn_destroy_function>("triage_cudnn_destroy");
    cudnn->error_ = library.function<triage_cudnn_error_function>("triage_cudnn_error");
    if (!version || !cudnn->plan_ || !cudnn->run_ || !cudnn->destroy_ || !cudnn->error_) return nullptr;
    cudnn->version_ = version();
    return cudnn;
  }();
  return found;
}

std::string Cudnn::absence() {
  if (!own_file(kFile).empty()) return "libtriage_cudnn.so cannot be loaded: " + load_error;
  return "this build has no libtriage_cudnn.so, which cuDNN and the headers of its frontend make (docs/verdict.md)";
}

void Cudnn::fail() const { throw std::runtime_error(std::string("cuDNN: ") + error_()); }

std::shared_ptr<Cudnn::Plan> Cudnn::plan(const TriageCudnnAttention& problem, bool backward) {
  std::shared_ptr<Plan> plan(new Plan);
  plan->cudnn_ = this;
  plan->handle_.reset(plan_(&problem, backward, &plan->workspace_bytes_), [this](void* handle) {
    if (handle != nullptr) destroy_(handle);
  });
  if (plan->handle_ == nullptr) fail();
  return plan;
}

void Cudnn::Plan::run(const TriageCudnnTensors& tensors) {
  if (cudnn_->run_(handle_.get(), &tensors) != 0) cudnn_->fail();
}

}  // namespace triage::verdict
