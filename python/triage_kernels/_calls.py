"""The library's operations on arrays of any kind. `arrays` is an adapter (_numpy_arrays, _torch_arrays, ...) with

    write(frame, slot, array) -> address of a DLTensor that shows the array, written into that slot of the frame
    key(array) -> its device, dtype, shape and strides: what a workspace's size may depend on
    scratch(bytes, like) -> (owner, address aligned to 256 bytes) in the memory of `like`
    stream(like) -> cudaStream_t as an int, 0 on the host

and every function writes into outputs that its caller made. Shapes and meanings: include/triage/*.h.
"""

import struct

from . import _frame, _library

ACTIVATIONS = {"none": 0, "relu": 1, "gelu": 2, "silu": 3}
LAYOUTS = {"x_yt": 0, "xt_y": 1}

_linear_options = struct.Struct("<ii").pack_into
_spmm_options = struct.Struct("<ffi").pack_into
_sddmm_options = struct.Struct("<iff").pack_into
_attention_options = struct.Struct("<fi qq f4x QQ qq QQQ i4x Q").pack_into
_addresses7 = struct.Struct("<7Q")
_addresses4 = struct.Struct("<4Q")

kMaxRemembered = 4096
_workspace_bytes = {}  # of a call's key; too little is noticed by the library, and asked again


def choice(name, value, accepted):
    try:
        return accepted[value]
    except (KeyError, TypeError):
        raise _library.InvalidArgumentError(
            f"{name} is {value!r}, accepted: {', '.join(map(repr, accepted))}") from None


def _run(name, arrays, frame, arguments, key, like):
    """Calls triage_<name>(*arguments, workspace, stream) with as much workspace as it wants."""
    library = _library.library()
    size = _workspace_bytes.get(key)
    if size is None:
        size = _query(library, name, frame, arguments, key)
    function = getattr(library, name)
    stream = arrays.stream(like)
    if size == 0:
        status = function(*arguments, None, stream)
    else:
        owner, address = arrays.scratch(size, like)
        status = function(*arguments, frame.workspace(address, size), stream)
    if status == _library.OUT_OF_MEMORY:  # TRIAGE_FORCE_KERNEL may have changed since the size was asked for
        needed = _query(library, name, frame, arguments, key)
        if needed > size:
            owner, address = arrays.scratch(needed, like)
            status = function(*arguments, frame.workspace(address, needed), stream)
        else:
            status = function(*arguments, frame.workspace(address, size) if size else None, stream)
    if status:
        _library.check(status)


def _query(library, name, frame, arguments, key):
    _library.check(getattr(library, name + "_workspace_bytes")(*arguments, frame.size_slot()))
    if len(_workspace_bytes) >= kMaxRemembered:
        _workspace_bytes.clear()
    size = _workspace_bytes[key] = frame.read_size()
    return size


def linear(arrays, pattern, values, x, bias, y, activation):
    frame = _frame.take()
    try:
        write = arrays.write
        kind = choice("activation", activation, ACTIVATIONS)
        arguments = (pattern.handle, write(frame, 0, values), write(frame, 1, x),
                     None if bias is None else write(frame, 2, bias), write(frame, 3, y),
                     frame.pack(_linear_options, kind, 0))
        key = ("linear", pattern.key, arrays.key(x), bias is None, kind)
        _run("triage_linear", arrays, frame, arguments, key, x)
    finally:
        _frame.give_back(frame)


def spmm(arrays, pattern, values, b, c, alpha, beta):
    frame = _frame.take()
    try:
        write = arrays.write
        arguments = (pattern.handle, write(frame, 0, values), write(frame, 1, b), write(frame, 2, c),
                     frame.pack(_spmm_options, alpha, beta, 0))
        _run("triage_spmm", arrays, frame, arguments, ("spmm", pattern.key, arrays.key(b), beta == 0), b)
    finally:
        _frame.give_back(frame)


def linear_backward_input(arrays, pattern, values, d_y, d_x):
    frame = _frame.take()
    try:
        write = arrays.write
        arguments = (pattern.handle, write(frame, 0, values), write(frame, 1, d_y), write(frame, 2, d_x))
        _run("triage_linear_backward_input", arrays, frame, arguments, ("d_x", pattern.key, arrays.key(d_y)), d_y)
    finally:
        _frame.give_back(frame)


def spmm_backward_b(arrays, pattern, values, d_c, d_b, alpha):
    frame = _frame.take()
    try:
        write = arrays.write
        arguments = (pattern.handle, write(frame, 0, values), write(frame, 1, d_c), write(frame, 2, d_b),
                     frame.pack(_spmm_options, alpha, 0.0, 0))
        _run("triage_spmm_backward_b", arrays, frame, arguments, ("d_b", pattern.key, arrays.key(d_c)), d_c)
    finally:
        _frame.give_back(frame)


def sddmm(arrays, pattern, x, y, values, layout, alpha, beta):
    frame = _frame.take()
    try:
        write = arrays.write
        kind = choice("layout", layout, LAYOUTS)
        arguments = (pattern.handle, write(frame, 0, x), write(frame, 1, y), write(frame, 2, values),
                     frame.pack(_sddmm_options, kind, alpha, beta))
        _run("triage_sddmm", arrays, frame, arguments, ("sddmm", pattern.key, arrays.key(x), kind, beta == 0), x)
    finally:
        _frame.give_back(frame)


class AttentionOptions:
    """triage_attention_options, with arrays where the struct has pointers."""

    __slots__ = ("softmax_scale", "causal", "window_left", "window_right", "softcap", "cu_seqlens_q", "cu_seqlens_k",
                 "max_seqlen_q", "max_seqlen_k", "seqused_k", "block_table", "sinks", "num_splits", "pattern")

    def __init__(self, softmax_scale=0.0, causal=False, window_left=-1, window_right=-1, softcap=0.0, cu_seqlens_q=None,
                 cu_seqlens_k=None, max_seqlen_q=0, max_seqlen_k=0, seqused_k=None, block_table=None, sinks=None,
                 num_splits=0, pattern=None):
        self.softmax_scale = softmax_scale
        self.causal = causal
        self.window_left = window_left
        self.window_right = window_right
        self.softcap = softcap
        self.cu_seqlens_q = cu_seqlens_q
        self.cu_seqlens_k = cu_seqlens_k
        self.max_seqlen_q = max_seqlen_q
        self.max_seqlen_k = max_seqlen_k
        self.seqused_k = seqused_k
        self.block_table = block_table
        self.sinks = sinks
        self.num_splits = num_splits
        self.pattern = pattern  # an AttentionPattern

    def write(self, arrays, frame):
        """The struct's address; its tensors take the slots from 11 on."""
        def address(slot, array):
            return 0 if array is None else arrays.write(frame, slot, array)
        return frame.pack(_attention_options, self.softmax_scale, bool(self.causal), self.window_left,
                          self.window_right, self.softcap, address(11, self.cu_seqlens_q),
                          address(12, self.cu_seqlens_k), self.max_seqlen_q, self.max_seqlen_k,
                          address(13, self.seqused_k), address(14, self.block_table), address(15, self.sinks),
                          self.num_splits, 0 if self.pattern is None else self.pattern.handle)

    def key(self):
        """What a workspace's size may depend on."""
        batch = None if self.cu_seqlens_q is None else self.cu_seqlens_q.shape[0]
        table = None if self.block_table is None else tuple(self.block_table.shape)
        return (bool(self.causal), self.window_left, self.window_right, self.softcap, batch,
                None if self.cu_seqlens_k is None else self.cu_seqlens_k.shape[0], self.max_seqlen_q,
                self.max_seqlen_k, self.seqused_k is None, table, self.sinks is None, self.num_splits,
                None if self.pattern is None else (self.pattern.key, self.pattern.has_elements))


def attention_forward(arrays, q, k, v, o, lse, options):
    frame = _frame.take()
    try:
        write = arrays.write
        arguments = (write(frame, 0, q), write(frame, 1, k), write(frame, 2, v), write(frame, 3, o),
                     None if lse is None else write(frame, 4, lse), options.write(arrays, frame))
        key = ("attention", arrays.key(q), arrays.key(k), arrays.key(v), lse is None, options.key())
        _run("triage_attention_forward", arrays, frame, arguments, key, q)
    finally:
        _frame.give_back(frame)


def attention_backward(arrays, inputs, outputs, options, deterministic):
    """inputs: q, k, v, o, lse, d_o, d_lse or None; outputs: d_q, d_k, d_v, d_sinks, each or None."""
    frame = _frame.take()
    try:
        views = [0 if array is None else arrays.write(frame, slot, array) for slot, array in enumerate((*inputs, *outputs))]
        settings = options.write(arrays, frame)
        # The structs of addresses stand behind the options (112 bytes).
        _addresses7.pack_into(frame.memory, _frame.kExtra + 112, *views[:7])
        _addresses4.pack_into(frame.memory, _frame.kExtra + 112 + 56, *views[7:])
        arguments = (settings + 112, settings + 168, settings, 0 if deterministic else 1)
        key = ("attention_backward", *map(arrays.key, inputs[:3]), tuple(view == 0 for view in views), bool(deterministic),
               options.key())
        _run("triage_attention_backward", arrays, frame, arguments, key, inputs[0])
    finally:
        _frame.give_back(frame)
