#include "api/launch.h"

#include <string>

#include "triage/kernels.h"

namespace triage {

namespace {

thread_local const char* last_kernel_name = "";

}  // namespace

void set_last_kernel(const char* name) { last_kernel_name = name; }

std::string last_kernel() { return last_kernel_name; }

void check_workspace(const Workspace& workspace, std::size_t needed, const char* kernel,
                     std::span<const Extent> tensors) {
  if (needed == 0) return;
  if (workspace.bytes < needed) {
    throw Error(ErrorCode::out_of_memory, "workspace.bytes is " + std::to_string(workspace.bytes) + ", but " + kernel +
                                              " needs " + std::to_string(needed) +
                                              " (what the *_workspace_bytes query answers)");
  }
  if (workspace.data == nullptr) {
    fail_argument("workspace.data is null, but " + std::string(kernel) + " needs " + std::to_string(needed) + " bytes");
  }
  if (reinterpret_cast<std::uintptr_t>(workspace.data) % 256 != 0) {
    fail_argument("workspace.data is not aligned to 256 bytes");
  }
  const Extent scratch = extent("workspace", workspace.data, needed);
  for (const Extent& tensor : tensors) check_no_overlap(scratch, tensor);
}

WorkspaceSource given(const Workspace& workspace) {
  return [workspace](std::size_t) { return workspace; };
}

Workspace workspace_from(const WorkspaceSource& source, std::size_t needed, const char* kernel,
                         std::span<const Extent> tensors) {
  if (needed == 0) return {};
  const Workspace workspace = source(needed);
  check_workspace(workspace, needed, kernel, tensors);
  return workspace;
}

}  // namespace triage
