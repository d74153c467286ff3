"""The public functions: one name for arrays of every kind. PyTorch tensors take the way of _torch_functions, with
gradients and torch.compile; NumPy and CuPy arrays call the library here."""

import numbers
import struct
import sys

from . import _calls
from ._attention_pattern import AttentionPattern
from ._library import InvalidArgumentError
from ._pattern import BlockPattern, adapter_of, sparse_operand


_tensor, _tensor_functions = (), None  # torch.Tensor and the module for it, once one has been seen


def _torch_functions_for(value):
    """The module _torch_functions if `value` is a tensor of PyTorch, else None."""
    global _tensor, _tensor_functions
    if isinstance(value, _tensor):
        return _tensor_functions
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return None
    from . import _torch_functions
    _tensor, _tensor_functions = torch.Tensor, _torch_functions
    return _torch_functions


def sparse_linear(x, w, bias=None, *, activation="none"):
    """activation(x @ w.T + bias) with a block-sparse w [out, in].

    x [..., in] and bias [out] share the dtype of w's values: float16 or bfloat16, on the CPU float32 and float64 as
    well. w is (values [nnz_blocks, block, block], BlockPattern), a SciPy BSR matrix or a torch.sparse_bsr tensor.
    activation is "none", "relu", "gelu" (the exact one) or "silu". Returns [..., out]. Differentiable by x, the values
    and bias; with "gelu" and "silu" the backward computes the product anew, as activation checkpointing does.
    """
    torch_functions = _torch_functions_for(x)
    if torch_functions is not None:
        return torch_functions.sparse_linear(x, w, bias, activation)
    values, pattern = sparse_operand("w", w)
    arrays = adapter_of(x)
    x = arrays.array_of("x", x)
    values = arrays.contiguous(arrays.array_of("values", values))
    if len(x.shape) == 0 or x.shape[-1] != pattern.shape[1]:
        raise InvalidArgumentError(f"x has the shape {tuple(x.shape)}, accepted: [..., {pattern.shape[1]}], the columns "
                                   "of w")
    flat = arrays.rows(x.reshape(-1, x.shape[-1]) if x.shape[-1] else x.reshape(_product(x.shape[:-1]), 0))
    y = arrays.empty((flat.shape[0], pattern.shape[0]), flat)
    bias = None if bias is None else arrays.contiguous(arrays.array_of("bias", bias))
    _calls.linear(arrays, pattern, values, flat, bias, y, activation)
    return y.reshape(*x.shape[:-1], pattern.shape[0])


def spmm(a, b, *, c=None, alpha=1.0, beta=0.0):
    """alpha * a @ b + beta * c with a block-sparse a [M, K]; b [K, N], c [M, N] (needed with beta).

    a is as w of `sparse_linear`. Returns a new [M, N]. Differentiable by a's values, b and c.
    """
    torch_functions = _torch_functions_for(b)
    if torch_functions is not None:
        return torch_functions.spmm(a, b, c, alpha, beta)
    values, pattern = sparse_operand("a", a)
    arrays = adapter_of(b)
    b = arrays.rows(arrays.array_of("b", b))
    if len(b.shape) != 2:
        raise InvalidArgumentError(f"b has the shape {tuple(b.shape)}, accepted: [K, N]")
    values = arrays.contiguous(arrays.array_of("values", values))
    result = _accumulator(arrays, "c", c, beta, (pattern.shape[0], b.shape[1]), b)
    _calls.spmm(arrays, pattern, values, b, result, alpha, beta)
    return result


def sddmm(x, y, pattern, *, layout="x_yt", values=None, alpha=1.0, beta=0.0):
    """alpha * (x @ y.T or x.T @ y, at the blocks of `pattern`) + beta * values, as values [nnz_blocks, block, block].

    layout "x_yt": x [M, D], y [N, D]; "xt_y": x [D, M], y [D, N]. Padding of ragged blocks becomes 0. Returns a new
    array. Differentiable by x, y and values.
    """
    if not isinstance(pattern, BlockPattern):
        raise InvalidArgumentError(f"pattern is a {type(pattern).__name__}, accepted: a BlockPattern")
    torch_functions = _torch_functions_for(x)
    if torch_functions is not None:
        return torch_functions.sddmm(x, y, pattern, layout, values, alpha, beta)
    arrays = adapter_of(x)
    x, y = (arrays.rows(arrays.array_of(name, value)) for name, value in (("x", x), ("y", y)))
    shape = (pattern.nnz_blocks, pattern.block_size, pattern.block_size)
    result = _accumulator(arrays, "values", values, beta, shape, x)
    _calls.sddmm(arrays, pattern, x, y, result, layout, alpha, beta)
    return result


def attention(q, k, v, *, causal=False, softmax_scale=None, window=(-1, -1), softcap=0.0, sinks=None, cu_seqlens_q=None,
              cu_seqlens_k=None, max_seqlen_q=0, max_seqlen_k=0, seqused_k=None, block_table=None, num_splits=0,
              deterministic=None, return_lse=False, pattern=None):
    """softmax(softmax_scale * q k^T + mask) v.

    q [batch, seqlen_q, heads, head_dim], k [batch, seqlen_k, kv_heads, head_dim], v [batch, seqlen_k, kv_heads,
    head_dim_v], any strides with inner stride 1: for tensors [batch, heads, seqlen, dim] pass q.transpose(1, 2). heads
    is a multiple of kv_heads; head dims are multiples of 8 up to 256. Returns [batch, seqlen_q, heads, head_dim_v],
    with return_lse also the float32 log of the sum of exponentials [batch, heads, seqlen_q].

    causal: query i sees key j <= i + seqlen_k - seqlen_q. window: (left, right) limits around that diagonal, -1 none.
    softmax_scale: None is 1/sqrt(head_dim). softcap: logits become softcap * tanh(logit / softcap). sinks: float32
    [heads], one more logit each that has no value. cu_seqlens_q, cu_seqlens_k: int32 [batch + 1], packed sequences: q
    [total_q, heads, head_dim] and so on, with max_seqlen_q, max_seqlen_k. seqused_k (int32 [batch]) and block_table
    (int32 [batch, max_pages]): caches, forward only. num_splits: parts of the keys, 0 lets the library choose.
    deterministic: whether the backward is bitwise repeatable, which may be slower; None asks
    torch.are_deterministic_algorithms_enabled(). pattern: an AttentionPattern, see `block_sparse_attention`.
    Differentiable by q, k, v and sinks, through both results.
    """
    if pattern is not None and type(pattern) is not AttentionPattern:
        raise InvalidArgumentError(f"pattern is a {type(pattern).__name__}, accepted: an AttentionPattern")
    try:
        window_left, window_right = window
    except (TypeError, ValueError):
        raise InvalidArgumentError(f"window is {window!r}, accepted: (left, right), -1 for no limit") from None
    scale = 0.0 if softmax_scale is None else _positive_scale(softmax_scale)
    settings = (cu_seqlens_q, cu_seqlens_k, seqused_k, block_table, sinks, max_seqlen_q, max_seqlen_k, scale, causal,
                window_left, window_right, softcap, num_splits, deterministic)
    torch_functions = _torch_functions_for(q)
    try:
        if torch_functions is not None:
            o, lse = torch_functions.attention(q, k, v, settings, pattern, return_lse)
        else:
            o, lse = _array_attention(q, k, v, settings, pattern, return_lse)
    except (TypeError, OverflowError, struct.error):
        _check_numbers(window_left=window_left, window_right=window_right, max_seqlen_q=max_seqlen_q,
                       max_seqlen_k=max_seqlen_k, num_splits=num_splits)
        if not isinstance(softcap, numbers.Real):
            raise InvalidArgumentError(f"softcap is {softcap!r}, accepted: a number") from None
        raise
    return (o, lse) if return_lse else o


def _array_attention(q, k, v, settings, pattern, want_lse):
    (cu_seqlens_q, cu_seqlens_k, seqused_k, block_table, sinks, max_seqlen_q, max_seqlen_k, scale, causal, window_left,
     window_right, softcap, num_splits, _) = settings
    arrays = adapter_of(q)
    q, k, v = (arrays.rows(arrays.array_of(name, value)) for name, value in (("q", q), ("k", k), ("v", v)))
    lengths = [None if value is None else arrays.indices(arrays.array_of("an index array", value))
               for value in (cu_seqlens_q, cu_seqlens_k, seqused_k, block_table)]
    sinks = None if sinks is None else arrays.contiguous(arrays.array_of("sinks", sinks))
    options = _calls.AttentionOptions(scale, causal, window_left, window_right, softcap, lengths[0], lengths[1],
                                      max_seqlen_q, max_seqlen_k, lengths[2], lengths[3], sinks, num_splits, pattern)
    check_attention_dimensions(q, k, v, cu_seqlens_q is not None, cu_seqlens_k is not None)
    o = arrays.empty((*q.shape[:-1], v.shape[-1]), q)
    lse = arrays.empty(lse_shape(q, cu_seqlens_q is not None), q, arrays.float32) if want_lse else None
    _calls.attention_forward(arrays, q, k, v, o, lse, options)
    return o, lse


def _check_numbers(**integers):
    """Says which of these could not become 64-bit integers."""
    for name, value in integers.items():
        if not isinstance(value, numbers.Integral) or not -2**63 <= value < 2**63:
            raise InvalidArgumentError(f"{name} is {value!r}, accepted: an integer of 64 bits") from None


def block_sparse_attention(q, k, v, pattern, *, causal=False, softmax_scale=None, window=(-1, -1), softcap=0.0,
                           sinks=None, cu_seqlens_q=None, cu_seqlens_k=None, max_seqlen_q=0, max_seqlen_k=0,
                           deterministic=None, return_lse=False):
    """`attention` over the blocks of scores that `pattern` (an AttentionPattern for these lengths, on their device)
    lists.

    causal and window cut blocks that are listed, but not those that are full. A query that attends nothing gives 0 and
    lse = -inf (with a sink: the sink). All else is as in `attention`; there are no caches. Differentiable by q, k, v
    and sinks, through both results; the pattern must not be updated between the forward and the backward.
    """
    if pattern is None:
        raise InvalidArgumentError("pattern is None, accepted: an AttentionPattern")
    return attention(q, k, v, causal=causal, softmax_scale=softmax_scale, window=window, softcap=softcap, sinks=sinks,
                     cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k, max_seqlen_q=max_seqlen_q,
                     max_seqlen_k=max_seqlen_k, deterministic=deterministic, return_lse=return_lse, pattern=pattern)


def _positive_scale(softmax_scale):
    if not isinstance(softmax_scale, numbers.Real) or not softmax_scale > 0:
        raise InvalidArgumentError(f"softmax_scale is {softmax_scale}, accepted: a positive number, or None for "
                                   "1/sqrt(head_dim)")
    return softmax_scale


def check_attention_dimensions(q, k, v, packed_q, packed_k):
    """What the shapes of the results rest on; all else is the library's to check."""
    for name, array, packed in (("q", q, packed_q), ("k", k, packed_k), ("v", v, packed_k)):
        expected = 3 if packed else 4
        if len(array.shape) != expected:
            shape = "[total, heads, head_dim] with its cu_seqlens" if packed else "[batch, seqlen, heads, head_dim]"
            raise InvalidArgumentError(f"{name} has {len(array.shape)} dimensions, accepted: {expected}, {shape}")


def lse_shape(q, packed):
    return (q.shape[1], q.shape[0]) if packed else (q.shape[0], q.shape[2], q.shape[1])


def _accumulator(arrays, name, array, beta, shape, like):
    """A new array to write into: `array`'s content where beta reads it."""
    if array is None:
        if beta != 0:
            raise InvalidArgumentError(f"beta is {beta}, but there is no {name} to multiply with it")
        return arrays.empty(shape, like)
    array = arrays.array_of(name, array)
    if tuple(array.shape) != tuple(shape):
        raise InvalidArgumentError(f"{name} has the shape {tuple(array.shape)}, accepted: {tuple(shape)}")
    result = arrays.empty(shape, array)
    if beta != 0:
        result[...] = array
    return result


def _product(sizes):
    product = 1
    for size in sizes:
        product *= size
    return product
