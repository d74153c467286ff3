// The checks of attention's arguments: from DLTensor views and options to the call that a kernel gets.
#pragma once

#include <vector>

#include "api/tensor_check.h"
#include "registry/attention_kernel.h"
#include "triage/attention.h"

namespace triage {

/// A call whose arguments are in order, without workspace and stream.
struct CheckedAttention {
  AttentionCall call;
  bool empty = false;           ///< no query: nothing to compute
  std::vector<Extent> tensors;  ///< the memory of all of them, for the workspace's check
};

/// @throws Error(invalid_argument) with a sentence that names the argument and what is accepted.
CheckedAttention check_attention(const DLTensor& q, const DLTensor& k, const DLTensor& v, const DLTensor& o,
                                 const DLTensor* lse, const AttentionOptions& options);

/// Likewise for the backward.
struct CheckedAttentionBackward {
  AttentionBackwardCall call;
  bool empty = false;  ///< neither a query nor a key
  std::vector<Extent> tensors;
};

/// @throws Error(invalid_argument) as above
CheckedAttentionBackward check_attention_backward(const AttentionBackwardInputs& inputs,
                                                  const AttentionBackwardOutputs& outputs,
                                                  const AttentionOptions& options, GradientOrder order);

}  // namespace triage
