// Causal attention of two packed sequences on the CPU: 5 and 2 tokens, 4 query heads on 2 KV heads.
#include <triage/triage.h>

#include <cmath>
#include <cstdio>
#include <vector>

#include "tensor.h"

int main() {
  constexpr std::int64_t tokens = 7, heads = 4, kv_heads = 2, dim = 64;
  std::vector<float> q(tokens * heads * dim), k(tokens * kv_heads * dim), v(k.size()), o(q.size()), lse(heads * tokens);
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = std::sin(static_cast<float>(i));
  for (std::size_t i = 0; i < k.size(); ++i) k[i] = v[i] = std::cos(static_cast<float>(i));
  std::vector<std::int32_t> starts{0, 5, 7};

  const TensorView q_view(q.data(), kFloat32, {tokens, heads, dim}),
      k_view(k.data(), kFloat32, {tokens, kv_heads, dim}), v_view(v.data(), kFloat32, {tokens, kv_heads, dim}),
      o_view(o.data(), kFloat32, {tokens, heads, dim}), lse_view(lse.data(), kFloat32, {heads, tokens}),
      starts_view(starts.data(), {kDLInt, 32, 1}, {3});
  triage::AttentionOptions options;
  options.causal = true;
  options.cu_seqlens_q = options.cu_seqlens_k = &starts_view;
  options.max_seqlen_q = options.max_seqlen_k = 5;
  try {
    const HostWorkspace workspace(
        triage::attention_forward_workspace_bytes(q_view, k_view, v_view, o_view, &lse_view, options));
    triage::attention_forward(q_view, k_view, v_view, o_view, &lse_view, options, workspace);
  } catch (const triage::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }

  // The first token of each sequence attends itself alone: its output is its value.
  for (const std::int64_t token : {0, 5}) {
    for (std::int64_t head = 0; head < heads; ++head) {
      for (std::int64_t d = 0; d < dim; ++d) {
        const float value = v[(token * kv_heads + head / 2) * dim + d];
        if (o[(token * heads + head) * dim + d] == value) continue;
        std::fprintf(stderr, "token %d, head %d is wrong\n", static_cast<int>(token), static_cast<int>(head));
        return 1;
      }
    }
  }
  std::printf("%s: the last token's lse is %.4f\n", triage::last_kernel().c_str(), lse[tokens - 1]);
  return 0;
}
