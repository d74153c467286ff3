// attention_forward: validate -> select -> launch.
#include "triage/attention.h"

#include "api/attention_check.h"
#include "api/launch.h"
#include "device/memory.h"
#include "registry/attention_registry.h"

namespace triage {

namespace {

std::size_t needed_workspace(const AttentionKernel& kernel, const AttentionCall& call) {
  return kernel.workspace_bytes == nullptr ? 0 : kernel.workspace_bytes(call.problem, *call.device);
}

}  // namespace

void attention_forward(const DLTensor& q, const DLTensor& k, const DLTensor& v, const DLTensor& o, const DLTensor* lse,
                       const AttentionOptions& options, const Workspace& workspace, Stream stream) {
  attention_forward(q, k, v, o, lse, options, given(workspace), stream);
}

void attention_forward(const DLTensor& q, const DLTensor& k, const DLTensor& v, const DLTensor& o, const DLTensor* lse,
                       const AttentionOptions& options, const WorkspaceSource& workspace, Stream stream) {
  CheckedAttention checked = check_attention(q, k, v, o, lse, options);
  if (checked.empty) {
    set_last_kernel("");
    return;
  }
  AttentionCall& call = checked.call;
  const AttentionKernel& kernel = select_attention(call.problem, *call.device);
  call.workspace = workspace_from(workspace, needed_workspace(kernel, call), kernel.name, checked.tensors);
  call.stream = stream;
  const DeviceGuard guard(call.device->dl);
  kernel.launch(call);
  set_last_kernel(kernel.name);
}

std::size_t attention_forward_workspace_bytes(const DLTensor& q, const DLTensor& k, const DLTensor& v,
                                              const DLTensor& o, const DLTensor* lse, const AttentionOptions& options) {
  const CheckedAttention checked = check_attention(q, k, v, o, lse, options);
  if (checked.empty) return 0;
  return needed_workspace(select_attention(checked.call.problem, *checked.call.device), checked.call);
}

}  // namespace triage
