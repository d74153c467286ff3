#include "verdict/cutlass.h"

#include <stdexcept>

#include "verdict/dynamic_library.h"
#include "verdict/own_files.h"

namespace triage::verdict {
namespace {

constexpr const char* kFile = "libtriage_cutlass.so";

void require(const char* why) {
  if (why != nullptr) throw std::runtime_error(std::string("CUTLASS: ") + why);
}

}  // namespace

Cutlass* Cutlass::find() {
  static Cutlass* const found = []() -> Cutlass* {
    const std::string path = own_file(kFile);
    const DynamicLibrary library = path.empty() ? DynamicLibrary() : DynamicLibrary::open_first({path});
    if (!library) return nullptr;
    auto* const version = library.function<triage_cutlass_version_function>("triage_cutlass_version");
    auto* const cutlass = new Cutlass;
    cutlass->gemm_ = library.function<triage_cutlass_gemm_function>("triage_cutlass_gemm");
    cutlass->workspace_ = library.function<triage_cutlass_workspace_function>("triage_cutlass_gemm_workspace");
    cutlass->ell_ = library.function<triage_cutlass_ell_function>("triage_cutlass_ell");
    if (!version || !cutlass->gemm_ || !cutlass->workspace_ || !cutlass->ell_) return nullptr;
    cutlass->version_ = version();
    return cutlass;
  }();
  return found;
}

std::string Cutlass::absence() {
  return "this build has no libtriage_cutlass.so: pip install nvidia-cutlass, then build with "
         "-DTRIAGE_CUTLASS_DIR=<site-packages>/cutlass_library/source";
}

void Cutlass::gemm(const TriageCutlassGemm& call, bool hopper) { require(gemm_(&call, hopper)); }

void Cutlass::ell(const TriageCutlassEll& call) { require(ell_(&call)); }

}  // namespace triage::verdict
