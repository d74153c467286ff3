// The launch functions behind the sm90 family's attention row, by head_dim as padded. Host code.
#pragma once

#include "registry/attention_kernel.h"

namespace triage::attention::sm90 {

void launch_d64(const AttentionCall& call);
void launch_sparse_d64(const AttentionCall& call);
void launch_sparse_d128(const AttentionCall& call);
void launch_d96(const AttentionCall& call);
void launch_d128(const AttentionCall& call);
void launch_d192(const AttentionCall& call);
void launch_d192_v128(const AttentionCall& call);
void launch_d256(const AttentionCall& call);

}  // namespace triage::attention::sm90
