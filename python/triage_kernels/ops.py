"""The PyTorch operators torch.ops.triage.*: definitions, CPU and CUDA implementations, shapes (fake kernels), gradients.

A pattern travels as its two index tensors; _torch_patterns finds what the library made of them. Users call the functions of
triage_kernels; these are what torch.compile and torch.export see. Importing this module registers them.

Gradients are written in terms of the operators themselves, so that products can be differentiated any number of times;
attention once.
"""

import contextlib

import torch

from . import _calls, _library
from . import _torch_arrays as arrays
from ._functions import check_attention_dimensions, lse_shape
from ._library import InvalidArgumentError
from ._torch_patterns import lookup

library = torch.library.Library("triage", "DEF")

library.define("sparse_linear(Tensor x, Tensor values, Tensor? bias, Tensor crow_indices, Tensor col_indices, "
                "SymInt out_features, str activation) -> Tensor")
library.define("sparse_linear_backward_input(Tensor d_y, Tensor values, Tensor crow_indices, Tensor col_indices, "
                "SymInt in_features) -> Tensor")
library.define("spmm(Tensor values, Tensor crow_indices, Tensor col_indices, SymInt rows, Tensor b, Tensor? c, "
                "float alpha, float beta) -> Tensor")
library.define("spmm_backward_b(Tensor values, Tensor crow_indices, Tensor col_indices, Tensor d_c, SymInt cols, "
                "float alpha) -> Tensor")
library.define("sddmm(Tensor x, Tensor y, Tensor crow_indices, Tensor col_indices, int block_size, str layout, "
                "Tensor? values, float alpha, float beta) -> Tensor")
_ATTENTION_OPTIONS = ("Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, Tensor? seqused_k, Tensor? block_table, Tensor? sinks, "
                      "SymInt max_seqlen_q, SymInt max_seqlen_k, float softmax_scale, bool causal, SymInt window_left, "
                      "SymInt window_right, float softcap, int num_splits, bool deterministic")
library.define(f"attention(Tensor q, Tensor k, Tensor v, {_ATTENTION_OPTIONS}) -> (Tensor, Tensor)")
library.define("attention_backward(Tensor d_o, Tensor? d_lse, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, "
                f"{_ATTENTION_OPTIONS}) -> (Tensor, Tensor, Tensor, Tensor)")


_several_gpus = torch.cuda.device_count() > 1


_no_guard = contextlib.nullcontext()


def device_guard(tensor):
    """Makes the tensor's GPU the current one; costs little where it is."""
    if _several_gpus and tensor.get_device() >= 0:
        return torch.cuda.device(tensor.get_device())
    return _no_guard


# ---- Implementations ----


def run_sparse_linear(pattern, x, values, bias, activation):
    shape, rows = x.shape, pattern.shape[0]
    if len(shape) == 0 or shape[-1] != pattern.shape[1]:
        raise columns_error("x", x, pattern, "[..., in]")
    # PyTorch is fastest at new tensors where it is given no tuple of sizes.
    y = x.new_empty(shape[0], rows) if len(shape) == 2 else x.new_empty((*shape[:-1], rows))
    values, bias = values.contiguous(), _contiguous(bias)
    call = arrays.builtin("triage_python_linear")
    if call is None:
        with device_guard(x):
            _calls.linear(arrays, pattern, values, arrays.matrix(x), bias, arrays.matrix(y), activation)
        return y
    kind = _calls.choice("activation", activation, _calls.ACTIVATIONS)
    status = call(pattern.handle, values, x if x.is_contiguous() else arrays.matrix(x), bias, y, kind, arrays.scratch)
    if status:
        _library.check(status)
    return y


def columns_error(name, x, pattern, what):
    return InvalidArgumentError(f"{name} has the shape {list(x.shape)}, accepted: {what} with {pattern.shape[1]}, the "
                                "columns of the block-sparse matrix")


def _sparse_linear(x, values, bias, crow, col, out_features, activation):
    _check_values(values)
    if x.dim() == 0:
        raise InvalidArgumentError("x has no dimensions, accepted: [..., in]")
    return run_sparse_linear(lookup(crow, col, out_features, x.shape[-1], values.shape[-1]), x, values, bias, activation)


def run_spmm(pattern, values, b, c, alpha, beta):
    b = arrays.rows(b)
    result = _accumulator("c", c, beta, (pattern.shape[0], b.shape[1]), b)
    with device_guard(b):
        _calls.spmm(arrays, pattern, values.contiguous(), b, result, alpha, beta)
    return result


def _spmm(values, crow, col, rows, b, c, alpha, beta):
    _check_values(values)
    _check_matrix("b", b)
    return run_spmm(lookup(crow, col, rows, b.shape[0], values.shape[-1]), values, b, c, alpha, beta)


def run_sddmm(pattern, x, y, layout, values, alpha, beta):
    x, y = arrays.rows(x), arrays.rows(y)
    shape = (pattern.nnz_blocks, pattern.block_size, pattern.block_size)
    result = _accumulator("values", values, beta, shape, x)
    with device_guard(x):
        _calls.sddmm(arrays, pattern, x, y, result, layout, alpha, beta)
    return result


def _sddmm(x, y, crow, col, block_size, layout, values, alpha, beta):
    _check_matrix("x", x)
    _check_matrix("y", y)
    dimension = 1 - _calls.choice("layout", layout, _calls.LAYOUTS)
    rows, cols = x.shape[1 - dimension], y.shape[1 - dimension]
    return run_sddmm(lookup(crow, col, rows, cols, block_size), x, y, layout, values, alpha, beta)


def _sparse_linear_backward_input(d_y, values, crow, col, in_features):
    """d_y [..., out] times w [out, in]."""
    pattern = lookup(crow, col, d_y.shape[-1], in_features, values.shape[-1])
    flat = arrays.matrix(d_y)
    d_x = torch.empty((flat.shape[0], in_features), dtype=d_y.dtype, device=d_y.device)
    with device_guard(d_y):
        _calls.linear_backward_input(arrays, pattern, values.contiguous(), flat, d_x)
    return d_x.view(*d_y.shape[:-1], in_features)


def _spmm_backward_b(values, crow, col, d_c, cols, alpha):
    """alpha * a.T @ d_c."""
    pattern = lookup(crow, col, d_c.shape[0], cols, values.shape[-1])
    d_c = arrays.rows(d_c)
    d_b = torch.empty((cols, d_c.shape[1]), dtype=d_c.dtype, device=d_c.device)
    with device_guard(d_c):
        _calls.spmm_backward_b(arrays, pattern, values.contiguous(), d_c, d_b, alpha)
    return d_b


def _options(cu_seqlens_q, cu_seqlens_k, seqused_k, block_table, sinks, max_seqlen_q, max_seqlen_k, softmax_scale, causal,
             window_left, window_right, softcap, num_splits, pattern):
    return _calls.AttentionOptions(softmax_scale, causal, window_left, window_right, softcap, _contiguous(cu_seqlens_q),
                                   _contiguous(cu_seqlens_k), max_seqlen_q, max_seqlen_k, _contiguous(seqused_k),
                                   _contiguous(block_table), _contiguous(sinks), num_splits, pattern)


def _contiguous(tensor):
    return None if tensor is None else tensor.contiguous()


def run_attention(q, k, v, settings, pattern=None, want_lse=True):
    """(o, lse), the latter None where it is not wanted. `settings`: what _ATTENTION_OPTIONS says."""
    packed_q, packed_k = settings[0] is not None, settings[1] is not None
    q_shape, v_shape = q.shape, v.shape
    if packed_q or packed_k or not len(q_shape) == k.dim() == len(v_shape) == 4:
        check_attention_dimensions(q, k, v, packed_q, packed_k)
    if q_shape[-1] == v_shape[-1] and q.is_contiguous():  # PyTorch is fastest at that
        o = torch.empty_like(q)
    else:
        o = q.new_empty((*q_shape[:-1], v_shape[-1]))
    lse = q.new_empty(lse_shape(q, packed_q), dtype=torch.float32) if want_lse else None
    q, k, v = arrays.rows(q), arrays.rows(k), arrays.rows(v)
    call = arrays.builtin("triage_python_attention")
    if call is None:
        with device_guard(q):
            _calls.attention_forward(arrays, q, k, v, o, lse, _options(*settings[:-1], pattern))
        return o, lse
    if packed_q or packed_k or settings[2] is not None or settings[4] is not None:
        settings = (*map(_contiguous, settings[:5]), *settings[5:])
    status = call(q, k, v, o, lse, None if pattern is None else pattern.handle, arrays.scratch, *settings)
    if status:
        _library.check(status)
    return o, lse


def _attention(q, k, v, *settings):
    return run_attention(q, k, v, settings)


def run_attention_backward(d_o, d_lse, q, k, v, o, lse, *settings, pattern=None):
    q, k, v, d_o = arrays.rows(q), arrays.rows(k), arrays.rows(v), arrays.rows(d_o)
    sinks = settings[4]
    gradients = [torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device) for tensor in (q, k, v)]
    if settings[0] is not None or settings[1] is not None:
        for gradient in gradients:
            gradient.zero_()  # rows outside of every sequence are not written
    d_sinks = torch.empty((0 if sinks is None else sinks.shape[0],), dtype=torch.float32, device=q.device)
    with device_guard(q):
        _calls.attention_backward(arrays, (q, k, v, o, lse, d_o, None if d_lse is None else d_lse.contiguous()),
                                  (*gradients, None if sinks is None else d_sinks),
                                  _options(*settings[:12], 0, pattern), settings[13])
    return (*gradients, d_sinks)


def _accumulator(name, tensor, beta, shape, like):
    if tensor is None:
        if beta != 0:
            raise InvalidArgumentError(f"beta is {beta}, but there is no {name} to multiply with it")
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    if tuple(tensor.shape) != tuple(shape):
        raise InvalidArgumentError(f"{name} has the shape {list(tensor.shape)}, accepted: {list(shape)}")
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _check_values(values):
    if values.dim() != 3:
        raise InvalidArgumentError(f"values has {values.dim()} dimensions, accepted: 3, [nnz_blocks, block, block]")


def _check_matrix(name, tensor):
    if tensor.dim() != 2:
        raise InvalidArgumentError(f"{name} has {tensor.dim()} dimensions, accepted: 2")


def inside(crow, col, block, rows, cols):
    """True where an element of the values belongs to the matrix, False in the padding of ragged blocks."""
    row = torch.arange(crow.shape[0] - 1, device=crow.device).repeat_interleave(crow.diff().long(),
                                                                                 output_size=col.shape[0])
    within = torch.arange(block, device=crow.device)
    return (row[:, None] * block + within < rows)[:, :, None] & (col[:, None] * block + within < cols)[:, None, :]


for _name, _function in (("sparse_linear", _sparse_linear), ("sparse_linear_backward_input", _sparse_linear_backward_input),
                         ("spmm", _spmm), ("spmm_backward_b", _spmm_backward_b), ("sddmm", _sddmm),
                         ("attention", _attention), ("attention_backward", run_attention_backward)):
    library.impl(_name, _function, "CPU")
    library.impl(_name, _function, "CUDA")


# ---- Shapes, for tensors without data ----


def fake(name):
    return torch.library.register_fake(f"triage::{name}", lib=library)


@fake("sparse_linear")
def _(x, values, bias, crow_indices, col_indices, out_features, activation):
    _calls.choice("activation", activation, _calls.ACTIVATIONS)
    return x.new_empty((*x.shape[:-1], out_features))


@fake("sparse_linear_backward_input")
def _(d_y, values, crow_indices, col_indices, in_features):
    return d_y.new_empty((*d_y.shape[:-1], in_features))


@fake("spmm")
def _(values, crow_indices, col_indices, rows, b, c, alpha, beta):
    return b.new_empty((rows, b.shape[1]))


@fake("spmm_backward_b")
def _(values, crow_indices, col_indices, d_c, cols, alpha):
    return d_c.new_empty((cols, d_c.shape[1]))


@fake("sddmm")
def _(x, y, crow_indices, col_indices, block_size, layout, values, alpha, beta):
    return x.new_empty((col_indices.shape[0], block_size, block_size))


@fake("attention")
def _(q, k, v, cu_seqlens_q, *_):
    check_attention_dimensions(q, k, v, cu_seqlens_q is not None, len(k.shape) == 3)
    return q.new_empty((*q.shape[:-1], v.shape[-1])), q.new_empty(lse_shape(q, cu_seqlens_q is not None),
                                                                  dtype=torch.float32)


@fake("attention_backward")
def _(d_o, d_lse, q, k, v, o, lse, cu_seqlens_q, cu_seqlens_k, seqused_k, block_table, sinks, *_):
    d_sinks = q.new_empty((0 if sinks is None else sinks.shape[0],), dtype=torch.float32)
    return (*(tensor.new_empty(tensor.shape) for tensor in (q, k, v)), d_sinks)


# ---- Gradients ----

_ops = torch.ops.triage


def register_gradient(name, backward, save):
    torch.library.register_autograd(f"triage::{name}", backward, setup_context=save, lib=library)


def _activation_gradient(kind, d_y, pre_activation):
    x = pre_activation
    if kind == "relu":
        return d_y * (x > 0)
    if kind == "silu":
        s = torch.sigmoid(x)
        return d_y * (s * (1 + x * (1 - s)))
    cdf = 0.5 * (1 + torch.erf(x * 0.5**0.5))
    return d_y * (cdf + x * torch.exp(-0.5 * x * x) * 0.3989422804014327)


def _save_sparse_linear(ctx, inputs, output):
    x, values, bias, crow, col, out_features, activation = inputs
    # relu's gradient can be read from its result; the others need what went in, which is computed anew.
    ctx.save_for_backward(x, values, bias if activation in ("gelu", "silu") else None, crow, col,
                          output if activation == "relu" else None)
    ctx.has_bias = bias is not None
    ctx.activation = activation
    ctx.out_features = out_features


def _sparse_linear_gradient(ctx, d_y):
    x, values, bias, crow, col, y = ctx.saved_tensors
    if ctx.activation == "relu":
        d_y = _activation_gradient("relu", d_y, y)
    elif ctx.activation != "none":
        z = _ops.sparse_linear(x, values, bias, crow, col, ctx.out_features, "none")
        d_y = _activation_gradient(ctx.activation, d_y.to(torch.promote_types(d_y.dtype, torch.float32)),
                                   z.to(torch.promote_types(z.dtype, torch.float32))).to(x.dtype)
    d_x = d_values = d_bias = None
    if ctx.needs_input_grad[0]:
        d_x = _ops.sparse_linear_backward_input(d_y, values, crow, col, x.shape[-1])
    if ctx.needs_input_grad[1]:
        d_values = _ops.sddmm(d_y.reshape(-1, d_y.shape[-1]), x.reshape(-1, x.shape[-1]), crow, col, values.shape[-1],
                              "xt_y", None, 1.0, 0.0)
    if ctx.has_bias and ctx.needs_input_grad[2]:
        d_bias = d_y.reshape(-1, d_y.shape[-1]).sum(0)
    return d_x, d_values, d_bias, None, None, None, None


register_gradient("sparse_linear", _sparse_linear_gradient, _save_sparse_linear)


def _save_sparse_linear_backward_input(ctx, inputs, output):
    d_y, values, crow, col, _ = inputs
    ctx.save_for_backward(d_y, values, crow, col)


def _sparse_linear_backward_input_gradient(ctx, g):  # d_x = d_y w
    d_y, values, crow, col = ctx.saved_tensors
    d_d_y = d_values = None
    if ctx.needs_input_grad[0]:
        d_d_y = _ops.sparse_linear(g, values, None, crow, col, d_y.shape[-1], "none")
    if ctx.needs_input_grad[1]:
        d_values = _ops.sddmm(d_y.reshape(-1, d_y.shape[-1]), g.reshape(-1, g.shape[-1]), crow, col, values.shape[-1],
                              "xt_y", None, 1.0, 0.0)
    return d_d_y, d_values, None, None, None


register_gradient("sparse_linear_backward_input", _sparse_linear_backward_input_gradient,
                   _save_sparse_linear_backward_input)


def _save_spmm(ctx, inputs, output):
    values, crow, col, _, b, c, ctx.alpha, ctx.beta = inputs
    ctx.save_for_backward(values, crow, col, b)
    ctx.has_c = c is not None


def _spmm_gradient(ctx, d_c):
    values, crow, col, b = ctx.saved_tensors
    d_values = d_b = d_accumulator = None
    if ctx.needs_input_grad[0]:
        d_values = _ops.sddmm(d_c, b, crow, col, values.shape[-1], "x_yt", None, ctx.alpha, 0.0)
    if ctx.needs_input_grad[4]:
        d_b = _ops.spmm_backward_b(values, crow, col, d_c, b.shape[0], ctx.alpha)
    if ctx.has_c and ctx.needs_input_grad[5]:
        d_accumulator = d_c * ctx.beta
    return d_values, None, None, None, d_b, d_accumulator, None, None


register_gradient("spmm", _spmm_gradient, _save_spmm)


def _save_spmm_backward_b(ctx, inputs, output):
    values, crow, col, d_c, _, ctx.alpha = inputs
    ctx.save_for_backward(values, crow, col, d_c)


def _spmm_backward_b_gradient(ctx, g):  # alpha * a.T d_c
    values, crow, col, d_c = ctx.saved_tensors
    d_values = d_d_c = None
    if ctx.needs_input_grad[0]:
        d_values = _ops.sddmm(d_c, g, crow, col, values.shape[-1], "x_yt", None, ctx.alpha, 0.0)
    if ctx.needs_input_grad[3]:
        d_d_c = _ops.spmm(values, crow, col, d_c.shape[0], g, None, ctx.alpha, 0.0)
    return d_values, None, None, d_d_c, None, None


register_gradient("spmm_backward_b", _spmm_backward_b_gradient, _save_spmm_backward_b)


def _save_sddmm(ctx, inputs, output):
    x, y, crow, col, _, ctx.layout, values, ctx.alpha, ctx.beta = inputs
    ctx.save_for_backward(x, y, crow, col)
    ctx.has_values = values is not None


def _sddmm_gradient(ctx, g):
    x, y, crow, col = ctx.saved_tensors
    d_x = d_y = d_values = None
    if ctx.layout == "x_yt":  # x y^T: d_x = G y, d_y = G^T x
        if ctx.needs_input_grad[0]:
            d_x = _ops.spmm(g, crow, col, x.shape[0], y, None, ctx.alpha, 0.0)
        if ctx.needs_input_grad[1]:
            d_y = _ops.spmm_backward_b(g, crow, col, x, y.shape[0], ctx.alpha)
    else:  # x^T y: d_x = y G^T, d_y = x G
        if ctx.needs_input_grad[0]:
            d_x = _ops.sparse_linear(y, g, None, crow, col, x.shape[1], "none") * ctx.alpha
        if ctx.needs_input_grad[1]:
            d_y = _ops.sparse_linear_backward_input(x, g, crow, col, y.shape[1]) * ctx.alpha
    if ctx.has_values and ctx.needs_input_grad[6]:
        rows, cols = (x.shape[0], y.shape[0]) if ctx.layout == "x_yt" else (x.shape[1], y.shape[1])
        d_values = g * ctx.beta * inside(crow, col, g.shape[-1], rows, cols)  # what comes in at the padding is not read
    return d_x, d_y, None, None, None, None, d_values, None, None


register_gradient("sddmm", _sddmm_gradient, _save_sddmm)


def _save_attention(ctx, inputs, output):
    q, k, v, cu_seqlens_q, cu_seqlens_k, seqused_k, block_table, sinks, *ctx.settings = inputs
    o, lse = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(q, k, v, o, lse, cu_seqlens_q, cu_seqlens_k, seqused_k, block_table, sinks)


def _attention_gradient(ctx, d_o, d_lse):
    q, k, v, o, lse, *tensors = ctx.saved_tensors
    none = (None,) * 17
    if d_o is None and d_lse is None:
        return none
    if d_o is None:
        d_o = torch.zeros_like(o)
    d_q, d_k, d_v, d_sinks = _ops.attention_backward(d_o, d_lse, q, k, v, o, lse, *tensors, *ctx.settings)
    return (d_q, d_k, d_v, *none[:4], None if tensors[4] is None else d_sinks, *none[:9])


register_gradient("attention", _attention_gradient, _save_attention)


def second_gradient(ctx, *_):
    raise NotImplementedError("attention can be differentiated once; there is no gradient of its gradient")


register_gradient("attention_backward", second_gradient, lambda ctx, inputs, output: None)


# ---- Autocast: floating tensors in its dtype, as torch.nn.functional.linear and SDPA do ----


def register_autocast(name, kept):
    """`kept`: positions of tensors whose dtype stays (sinks are float32)."""
    operator = getattr(_ops, name).default

    def for_device(device):
        def cast(*arguments):
            dtype = torch.get_autocast_dtype(device)
            with torch.autocast(device, enabled=False):
                return operator(*(
                    argument.to(dtype) if isinstance(argument, torch.Tensor) and position not in kept and
                    argument.is_floating_point() and argument.dtype is not torch.float64 else argument
                    for position, argument in enumerate(arguments)))
        return cast

    library.impl(name, for_device("cuda"), "AutocastCUDA")
    library.impl(name, for_device("cpu"), "AutocastCPU")


for _name, _kept in (("sparse_linear", ()), ("spmm", ()), ("sddmm", ()), ("attention", (7,))):
    register_autocast(_name, _kept)

from . import _block_sparse_ops  # noqa: E402, F401  (it uses what stands above)
