// attention_backward: validate -> select -> launch.
#include "api/attention_check.h"
#include "api/launch.h"
#include "device/memory.h"
#include "registry/attention_registry.h"
#include "triage/attention.h"

namespace triage {

namespace {

std::size_t needed_workspace(const AttentionBackwardKernel& kernel, const AttentionCall& forward) {
  return kernel.workspace_bytes == nullptr ? 0 : kernel.workspace_bytes(forward.problem, *forward.device);
}

}  // namespace

void attention_backward(const AttentionBackwardInputs& inputs, const AttentionBackwardOutputs& outputs,
                        const AttentionOptions& options, GradientOrder order, const Workspace& workspace,
                        Stream stream) {
  CheckedAttentionBackward checked = check_attention_backward(inputs, outputs, options, order);
  AttentionCall& forward = checked.call.forward;
  if (checked.empty) {
    set_last_kernel("");
    return;
  }
  const AttentionBackwardKernel& kernel = select_attention_backward(forward.problem, *forward.device);
  check_workspace(workspace, needed_workspace(kernel, forward), kernel.name, checked.tensors);
  forward.workspace = workspace;
  forward.stream = stream;
  const DeviceGuard guard(forward.device->dl);
  kernel.launch(checked.call);
  set_last_kernel(kernel.name);
}

std::size_t attention_backward_workspace_bytes(const AttentionBackwardInputs& inputs,
                                               const AttentionBackwardOutputs& outputs,
                                               const AttentionOptions& options, GradientOrder order) {
  const CheckedAttentionBackward checked = check_attention_backward(inputs, outputs, options, order);
  if (checked.empty) return 0;
  const AttentionCall& forward = checked.call.forward;
  return needed_workspace(select_attention_backward(forward.problem, *forward.device), forward);
}

}  // namespace triage
