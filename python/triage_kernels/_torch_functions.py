"""The public functions for PyTorch tensors. Where nothing but the result is wanted (eager, no gradient, no autocast, no
mode), they call the library directly: PyTorch's dispatcher costs more than the launch. Else they are the operators."""

import torch

from . import _torch_arrays as arrays
from . import ops
from ._functions import check_attention_dimensions
from ._library import InvalidArgumentError
from ._pattern import BlockPattern, sparse_operand

_ops = torch.ops.triage
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_compiling = torch.compiler.is_compiling
_look_for_meta = arrays._exchange_api is None
_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._len_torch_function_stack
_transforms = getattr(torch._C._functorch, "peek_interpreter_stack", lambda: None)
_any_autocast = getattr(torch._C, "_is_any_autocast_enabled", None)
if _any_autocast is None:

    def _any_autocast():
        return torch.is_autocast_enabled("cuda") or torch.is_autocast_enabled("cpu")


def _direct(*tensors):
    """Whether a call on these needs nothing of PyTorch's dispatcher. (It does if one is meta: where PyTorch's own function
    reads tensors, the direct call fails then, and `_explained` says None.)"""
    if _compiling() or _modes() or _function_modes() or _any_autocast() or _transforms() is not None:
        return False
    gradients = torch.is_grad_enabled()
    for tensor in tensors:
        if tensor is not None and (type(tensor) not in _PLAIN or gradients and tensor.requires_grad or tensor.is_neg() or
                                   _look_for_meta and tensor.is_meta):
            return False
    return True


def _explained(error, **tensors):
    """What to raise for an error of PyTorch's in a direct call: a sentence, if one of the tensors is of a kind that has
    no memory to be read; None if one is meta: then the operators serve."""
    if any(tensor is not None and tensor.is_meta for tensor in tensors.values()):
        return None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.layout is not torch.strided or tensor.is_nested:
            kind = "nested" if tensor.is_nested else str(tensor.layout)
            return InvalidArgumentError(f"{name} is a {kind} tensor, accepted: dense ones (torch.strided)")
        if tensor.dtype not in arrays.DTYPES or tensor.is_quantized:
            return InvalidArgumentError(f"{name} is {str(tensor.dtype).removeprefix('torch.')}, accepted: float16, bfloat16, "
                                        "on the CPU float32 and float64 as well")
    return error


def _operand(name, matrix):
    """(values, pattern) without anything that torch.compile cannot trace, where it is such a pair."""
    if type(matrix) is tuple and len(matrix) == 2 and type(matrix[1]) is BlockPattern:
        return matrix
    return sparse_operand(name, matrix)


def _same_columns(name, x, pattern, dimension, what):
    if x.dim() == 0 or x.shape[dimension] != pattern.shape[1]:
        raise ops.columns_error(name, x, pattern, what)


def sparse_linear(x, w, bias, activation):
    values, pattern = _operand("w", w)
    if _direct(x, values, bias):
        try:
            return ops.run_sparse_linear(pattern, x, values, bias, activation)
        except (RuntimeError, KeyError) as error:
            explained = _explained(error, x=x, values=values, bias=bias)
        if explained is not None:
            raise explained
    _same_columns("x", x, pattern, -1, "[..., in]")
    return _ops.sparse_linear(x, values, bias, pattern.crow_indices, pattern.col_indices, pattern.shape[0], activation)


def spmm(a, b, c, alpha, beta):
    values, pattern = _operand("a", a)
    _same_columns("b", b, pattern, 0, "[K, N]")
    return _ops.spmm(values, pattern.crow_indices, pattern.col_indices, pattern.shape[0], b, c, alpha, beta)


def sddmm(x, y, pattern, layout, values, alpha, beta):
    return _ops.sddmm(x, y, pattern.crow_indices, pattern.col_indices, pattern.block_size, layout, values, alpha, beta)


def attention(q, k, v, settings, pattern, want_lse):
    """(o, lse), the latter perhaps None where it is not wanted. `settings`: the operator's other arguments."""
    if _direct(q, k, v, settings[4]):
        try:
            return ops.run_attention(q, k, v, settings, pattern, want_lse)
        except (RuntimeError, KeyError) as error:
            explained = _explained(error, q=q, k=k, v=v, sinks=settings[4])
        if explained is not None:
            raise explained
    (cu_seqlens_q, cu_seqlens_k, seqused_k, block_table, sinks, max_seqlen_q, max_seqlen_k, softmax_scale, causal,
     window_left, window_right, softcap, num_splits, deterministic) = settings
    check_attention_dimensions(q, k, v, cu_seqlens_q is not None, cu_seqlens_k is not None)
    if deterministic is None:
        deterministic = torch.are_deterministic_algorithms_enabled()
    if pattern is None:
        return _ops.attention(q, k, v, *settings[:-1], deterministic)
    if pattern.blocks is None:
        raise InvalidArgumentError("pattern was made from arrays that are no PyTorch tensors, accepted with tensors "
                                   "that want a gradient and under torch.compile: one that was")
    for name, value in (("seqused_k", seqused_k), ("block_table", block_table)):
        if value is not None:
            raise InvalidArgumentError(f"{name} is given with a pattern, accepted: one of them")
    if num_splits > 1:
        raise InvalidArgumentError(f"num_splits is {num_splits}, accepted with a pattern: 0 or 1")
    return _ops.block_sparse_attention(q, k, v, pattern.blocks, pattern.element_index, pattern.elements, cu_seqlens_q,
                                       cu_seqlens_k, sinks, pattern.seqlen_q, pattern.seqlen_k, *pattern.block_size,
                                       max_seqlen_q, max_seqlen_k, softmax_scale, causal, window_left, window_right,
                                       softcap, deterministic)
