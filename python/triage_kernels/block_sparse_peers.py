"""Block-sparse attention as others have it, for peers.py: FlexAttention, FlashAttention-4's block tensors, and the
block-sparse attention of cuDNN's frontend. Masks are bool [1, heads, q_blocks, k_blocks]; listed blocks are attended in full.

Each function gets (torch, q, k, v, shape) or, for gradients, (torch, q, k, v, d_o, shape), with shape["mask"] and
shape["block"], and returns (what is timed, what gives the results, version), as in peers.py.
"""

import importlib.util
import math
from importlib import metadata


def random_mask(torch, shape, device, seed=1):
    """A mask of the shape's kind and density for each head, as the verdict's (bench/attention_patterns.h), of other
    random numbers."""
    rows, cols = (math.ceil(shape[length] / shape["block"]) for length in ("seqlen_q", "seqlen_k"))
    kind, density = shape.get("pattern", "uniform"), shape["density"]
    generator = torch.Generator().manual_seed(seed)

    def one():
        mask = torch.zeros(rows, cols, dtype=torch.bool)
        if kind == "window_and_full_rows":  # a quarter of the blocks in full rows, the rest around the diagonal
            full = round(density / 4 * rows)
            width = min(cols, max(0, round((density * rows - full) / (rows - full) * cols)))
            for row in range(rows):
                begin = min(max(row * cols // rows - width // 2, 0), cols - width)
                mask[row, begin:begin + width] = True
            mask[torch.randperm(rows, generator=generator)[:full]] = True
            return mask
        counts = torch.full((rows,), round(density * cols))
        if kind == "power_law":
            counts = power_law_counts(torch, density, rows, cols)[torch.randperm(rows, generator=generator)]
        order = torch.rand(rows, cols, generator=generator).argsort(-1)
        return mask.scatter_(1, order, torch.arange(cols) < counts[:, None])

    if kind not in ("uniform", "window_and_full_rows", "power_law"):
        raise RuntimeError(f"there is no mask of the kind {kind} here")
    return torch.stack([one() for _ in range(shape["heads"])])[None].to(device)


def power_law_counts(torch, density, rows, cols):
    """min(cols, c * (rank + 1)^-0.7), with the c that makes the sum density * rows * cols."""
    falling = torch.arange(1, rows + 1, dtype=torch.float64) ** -0.7
    low, high = 0.0, float(rows * cols)
    for _ in range(60):
        middle = (low + high) / 2
        if (middle * falling).clamp(max=cols).sum() < density * rows * cols:
            low = middle
        else:
            high = middle
    return (low * falling).clamp(max=cols).round().long()


def lists(torch, mask):
    """Counts [.., rows] and indices [.., rows, most] of each row's blocks, int32."""
    counts = mask.sum(-1, dtype=torch.int32)
    most = max(1, int(counts.max()))
    listed_first = torch.argsort((~mask).to(torch.uint8), dim=-1, stable=True)
    return counts, listed_first[..., :most].to(torch.int32).contiguous()


def flex_attention(torch, q, k, v, shape):
    """torch's FlexAttention, compiled on a GPU. All blocks are full, so that its kernels never ask mask_mod."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention
    mask, block = shape["mask"], shape["block"]
    counts, indices = lists(torch, mask)
    indices = torch.nn.functional.pad(indices, (0, mask.shape[-1] - indices.shape[-1]))  # it wants whole rows
    block_mask = BlockMask.from_kv_blocks(torch.zeros_like(counts), indices, counts, indices, BLOCK_SIZE=block,
                                          mask_mod=lambda b, h, i, j: mask[0, h, i // block, j // block],
                                          seq_lengths=(shape["seqlen_q"], shape["seqlen_k"]))
    options = {}
    if block == 64:  # its own tiles are larger than that
        options = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_M1": 32, "BLOCK_N1": 64, "BLOCK_M2": 64, "BLOCK_N2": 32}
    function = torch.compile(flex_attention, dynamic=False) if q.is_cuda else flex_attention
    inputs = [x.transpose(1, 2) for x in (q, k, v)]

    def run():
        return function(*inputs, block_mask=block_mask, kernel_options=options or None,
                        enable_gqa=shape["heads"] != shape["kv_heads"])
    return run, lambda: run().transpose(1, 2), torch.__version__


def fa4_tensors(torch, shape, transposed):
    """What FlashAttention-4 takes for a mask; its backward wants the mask's columns."""
    from flash_attn.cute.block_sparsity import BlockSparseTensorsTorch
    mask = shape["mask"].transpose(-1, -2) if transposed else shape["mask"]
    counts, indices = lists(torch, mask)
    none = torch.zeros_like(counts), torch.zeros_like(indices[..., :1])
    return BlockSparseTensorsTorch(mask_block_cnt=none[0], mask_block_idx=none[1], full_block_cnt=counts,
                                   full_block_idx=indices, block_size=(shape["block"], shape["block"]))


def fa4(torch, q, k, v, shape):
    """FlashAttention-4 through the function behind its public one, which takes block tensors."""
    require("flash_attn.cute")
    from flash_attn.cute.interface import _flash_attn_fwd
    blocks, scale = fa4_tensors(torch, shape, False), shape["head_dim"]**-0.5

    def run():
        return _flash_attn_fwd(q, k, v, softmax_scale=scale, block_sparse_tensors=blocks, return_lse=False)
    return run, lambda: run()[0], metadata.version("flash-attn-4")


def fa4_backward(torch, q, k, v, d_o, shape):
    require("flash_attn.cute")
    from flash_attn.cute.interface import _flash_attn_bwd, _flash_attn_fwd
    scale = shape["head_dim"]**-0.5
    out, lse, *_ = _flash_attn_fwd(q, k, v, softmax_scale=scale, return_lse=True,
                                   block_sparse_tensors=fa4_tensors(torch, shape, False))
    blocks = fa4_tensors(torch, shape, True)

    def run():
        return _flash_attn_bwd(q, k, v, out, d_o, lse, softmax_scale=scale, block_sparse_tensors=blocks)
    return run, lambda: run()[:3], metadata.version("flash-attn-4")


def cudnn(torch, q, k, v, shape):
    """The block-sparse attention of nvidia-cudnn-frontend, which takes [batch, heads, sequence, head_dim]."""
    require("cudnn")
    from cudnn.block_sparse_attention import block_sparse_attention_forward
    counts, indices = lists(torch, shape["mask"])
    inputs = [x.transpose(1, 2).contiguous() for x in (q, k, v)]

    def run():
        return block_sparse_attention_forward(*inputs, indices, q2k_block_nums=counts,
                                              sparse_block_size=shape["block"])
    return run, lambda: run()["o_tensor"].transpose(1, 2), metadata.version("nvidia-cudnn-frontend")


def cudnn_backward(torch, q, k, v, d_o, shape):
    run_forward, _, version = cudnn(torch, q, k, v, shape)
    from cudnn.block_sparse_attention import block_sparse_attention_backward
    forward = run_forward()
    counts, indices = lists(torch, shape["mask"])
    inputs = [x.transpose(1, 2).contiguous() for x in (d_o, q, k, v)]

    def run():
        return block_sparse_attention_backward(*inputs, forward["o_tensor"], forward["lse_tensor"], indices,
                                               q2k_block_nums=counts, sparse_block_size=shape["block"])

    def results():
        gradients = run()
        return [gradients[name].transpose(1, 2) for name in ("dq_tensor", "dk_tensor", "dv_tensor")]
    return run, results, version


def require(module):
    if not importlib.util.find_spec(module.split(".")[0]):
        raise RuntimeError(f"{module} is not installed")


PEERS = {"flex_attention": flex_attention, "fa4": fa4, "cudnn_bsa": cudnn}
BACKWARD = {"fa4": fa4_backward, "cudnn_bsa": cudnn_backward}  # the others have autograd
