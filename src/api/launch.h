// What every operation does between its checks and its kernel's launch.
#pragma once

#include <cstddef>
#include <span>

#include "api/deferred_workspace.h"
#include "api/tensor_check.h"
#include "triage/types.h"

namespace triage {

/// What last_kernel() answers on this thread from now on. @param name of static storage.
void set_last_kernel(const char* name);

/// Refuses a workspace that is smaller than `needed` bytes, misaligned, or shares a byte with one of `tensors`.
void check_workspace(const Workspace& workspace, std::size_t needed, const char* kernel,
                     std::span<const Extent> tensors);

/// The source of a caller that brought `workspace` along.
WorkspaceSource given(const Workspace& workspace);

/// `needed` bytes from `source`, checked as above; none if none are needed.
Workspace workspace_from(const WorkspaceSource& source, std::size_t needed, const char* kernel,
                         std::span<const Extent> tensors);

}  // namespace triage
