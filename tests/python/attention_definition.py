"""What attention means, by dense products, differentiable: what the tests compare with."""

import torch


def attend(q, k, v, seen, softmax_scale=None, softcap=0.0, sinks=None):
    """(o, lse) of q [batch, queries, heads, head_dim], k and v likewise; `seen` broadcasts to [batch, heads, queries,
    keys] and says what is attended."""
    group = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)
    # The library holds both in float32.
    scale, softcap = torch.tensor([softmax_scale or q.shape[-1]**-0.5, softcap], dtype=torch.float32).tolist()
    logits = torch.einsum("bihd,bjhd->bhij", q, k) * scale
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits.masked_fill(~seen, float("-inf"))
    if sinks is not None:
        logits = torch.cat([logits, sinks.to(logits)[None, :, None, None].expand(*logits.shape[:3], 1)], -1)
    lse = torch.logsumexp(logits, -1)
    weights = torch.exp(logits - torch.where(lse.isinf(), 0.0, lse)[..., None])
    return torch.einsum("bhij,bjhd->bihd", weights[..., :k.shape[1]], v), lse
