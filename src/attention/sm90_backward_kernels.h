// The launch functions behind the sm90 family's backward row, by head_dim as padded. Host code.
#pragma once

#include "registry/attention_kernel.h"

namespace triage::attention::sm90 {

void launch_backward_d64(const AttentionBackwardCall& call);
void launch_backward_d128(const AttentionBackwardCall& call);
void launch_one_pass_d64(const AttentionBackwardCall& call);
void launch_one_pass_d128(const AttentionBackwardCall& call);
void launch_one_pass_sparse_d64(const AttentionBackwardCall& call);
void launch_one_pass_sparse_d128(const AttentionBackwardCall& call);
void launch_backward_sparse_d64(const AttentionBackwardCall& call);
void launch_backward_sparse_d128(const AttentionBackwardCall& call);

}  // namespace triage::attention::sm90
