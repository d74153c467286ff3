"""The operators torch.ops.triage.block_sparse_attention and its gradient, as ops.py has the others. A pattern travels
as its mask of blocks and masks of elements; _torch_masks finds what the library made of them."""

import torch

from ._functions import check_attention_dimensions, lse_shape
from ._torch_masks import lookup
from .ops import (fake, library, register_autocast, register_gradient, run_attention, run_attention_backward,
                  second_gradient)

_ARGUMENTS = ("Tensor blocks, Tensor? element_index, Tensor? elements, Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, "
              "Tensor? sinks, SymInt seqlen_q, SymInt seqlen_k, int block_q, int block_k, SymInt max_seqlen_q, "
              "SymInt max_seqlen_k, float softmax_scale, bool causal, SymInt window_left, SymInt window_right, "
              "float softcap, bool deterministic")
library.define(f"block_sparse_attention(Tensor q, Tensor k, Tensor v, {_ARGUMENTS}) -> (Tensor, Tensor)")
library.define("block_sparse_attention_backward(Tensor d_o, Tensor? d_lse, Tensor q, Tensor k, Tensor v, Tensor o, "
               f"Tensor lse, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor)")


def _settings(cu_seqlens_q, cu_seqlens_k, sinks, max_seqlen_q, max_seqlen_k, softmax_scale, causal, window_left,
              window_right, softcap, deterministic):
    """What run_attention takes."""
    return (cu_seqlens_q, cu_seqlens_k, None, None, sinks, max_seqlen_q, max_seqlen_k, softmax_scale, causal,
            window_left, window_right, softcap, 0, deterministic)


def _block_sparse_attention(q, k, v, blocks, element_index, elements, cu_seqlens_q, cu_seqlens_k, sinks, seqlen_q,
                            seqlen_k, block_q, block_k, *rest):
    return run_attention(q, k, v, _settings(cu_seqlens_q, cu_seqlens_k, sinks, *rest),
                         lookup(blocks, element_index, elements, seqlen_q, seqlen_k, (block_q, block_k)))


def _block_sparse_attention_backward(d_o, d_lse, q, k, v, o, lse, blocks, element_index, elements, cu_seqlens_q,
                                     cu_seqlens_k, sinks, seqlen_q, seqlen_k, block_q, block_k, *rest):
    pattern = lookup(blocks, element_index, elements, seqlen_q, seqlen_k, (block_q, block_k))
    return run_attention_backward(d_o, d_lse, q, k, v, o, lse, *_settings(cu_seqlens_q, cu_seqlens_k, sinks, *rest),
                                  pattern=pattern)


for _name, _function in (("block_sparse_attention", _block_sparse_attention),
                         ("block_sparse_attention_backward", _block_sparse_attention_backward)):
    library.impl(_name, _function, "CPU")
    library.impl(_name, _function, "CUDA")


@fake("block_sparse_attention")
def _(q, k, v, blocks, element_index, elements, cu_seqlens_q, cu_seqlens_k, *_):
    check_attention_dimensions(q, k, v, cu_seqlens_q is not None, cu_seqlens_k is not None)
    return q.new_empty((*q.shape[:-1], v.shape[-1])), q.new_empty(lse_shape(q, cu_seqlens_q is not None),
                                                                  dtype=torch.float32)


@fake("block_sparse_attention_backward")
def _(d_o, d_lse, q, k, v, o, lse, blocks, element_index, elements, cu_seqlens_q, cu_seqlens_k, sinks, *_):
    d_sinks = q.new_empty((0 if sinks is None else sinks.shape[0],), dtype=torch.float32)
    return (*(tensor.new_empty(tensor.shape) for tensor in (q, k, v)), d_sinks)


def _save(ctx, inputs, output):
    ctx.settings = inputs[9:]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:3], *output, *inputs[3:9])


def _gradient(ctx, d_o, d_lse):
    q, k, v, o, lse, *tensors = ctx.saved_tensors
    none = (None,) * 21
    if d_o is None and d_lse is None:
        return none
    if d_o is None:
        d_o = torch.zeros_like(o)
    d_q, d_k, d_v, d_sinks = torch.ops.triage.block_sparse_attention_backward(d_o, d_lse, q, k, v, o, lse, *tensors,
                                                                              *ctx.settings)
    return (d_q, d_k, d_v, *none[3:8], None if tensors[5] is None else d_sinks, *none[9:])


register_gradient("block_sparse_attention", _gradient, _save)
register_gradient("block_sparse_attention_backward", second_gradient, lambda ctx, inputs, output: None)
register_autocast("block_sparse_attention", (8,))
