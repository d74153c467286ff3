// Operations for callers that make a workspace once its size is known, instead of asking for the size first: a call's
// arguments are then checked once.
#pragma once

#include <cstddef>
#include <functional>

#include "triage/attention.h"
#include "triage/sparse_gemm.h"

namespace triage {

/// Makes the workspace; called at most once, after the checks, and only if the kernel needs one. What it throws ends
/// the call before anything was launched.
using WorkspaceSource = std::function<Workspace(std::size_t bytes)>;

void linear(const BlockPattern& w, const DLTensor& w_values, const DLTensor& x, const DLTensor* bias, const DLTensor& y,
            const LinearOptions& options, const WorkspaceSource& workspace, Stream stream);

void attention_forward(const DLTensor& q, const DLTensor& k, const DLTensor& v, const DLTensor& o, const DLTensor* lse,
                       const AttentionOptions& options, const WorkspaceSource& workspace, Stream stream);

}  // namespace triage
