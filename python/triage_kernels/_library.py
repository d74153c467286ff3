"""libtriage through ctypes: loading, the functions' types, errors."""

import ctypes
import os
import threading

OK, INVALID_ARGUMENT, UNSUPPORTED, OUT_OF_MEMORY, CUDA_ERROR, INTERNAL_ERROR = range(6)


class Error(Exception):
    """What every error of the library is; its text is the library's sentence."""


class InvalidArgumentError(Error, ValueError):
    """An argument is malformed."""


class UnsupportedError(Error, NotImplementedError):
    """The arguments are well-formed, but no kernel takes them here."""


class OutOfMemoryError(Error, MemoryError):
    """Memory could not be had."""


class CudaError(Error, RuntimeError):
    """The CUDA runtime or driver reported an error."""


class InternalError(Error, RuntimeError):
    """A defect of the library."""


_ERRORS = {
    INVALID_ARGUMENT: InvalidArgumentError,
    UNSUPPORTED: UnsupportedError,
    OUT_OF_MEMORY: OutOfMemoryError,
    CUDA_ERROR: CudaError,
}


class PatternInfo(ctypes.Structure):
    """triage_pattern_info"""

    _fields_ = [
        ("rows", ctypes.c_int64),
        ("cols", ctypes.c_int64),
        ("block_rows", ctypes.c_int64),
        ("block_cols", ctypes.c_int64),
        ("nnz_blocks", ctypes.c_int64),
        ("density", ctypes.c_double),
        ("block_size", ctypes.c_int32),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
    ]


class AttentionPatternInfo(ctypes.Structure):
    """triage_attention_pattern_info"""

    _fields_ = [
        ("batch", ctypes.c_int64),
        ("heads", ctypes.c_int64),
        ("seqlen_q", ctypes.c_int64),
        ("seqlen_k", ctypes.c_int64),
        ("block_q", ctypes.c_int32),
        ("block_k", ctypes.c_int32),
        ("has_elements", ctypes.c_int32),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
    ]


class Device(ctypes.Structure):
    """DLDevice"""

    _fields_ = [("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32)]


class TensorView(ctypes.Structure):
    """DLTensor"""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_pointer = ctypes.c_void_p  # takes an address as an int, None as NULL
_attention_sizes = [ctypes.c_int64, ctypes.c_int64, ctypes.c_int, ctypes.c_int]  # seqlen_q, seqlen_k, block_q, block_k
_PROTOTYPES = {
    "triage_pattern_from_bsr": [_pointer, _pointer, ctypes.c_int64, ctypes.c_int64, ctypes.c_int, _pointer, _pointer],
    "triage_pattern_from_mask": [_pointer, ctypes.c_int64, ctypes.c_int64, ctypes.c_int, _pointer, _pointer],
    "triage_pattern_from_dense": [_pointer, ctypes.c_int, _pointer, _pointer],
    "triage_pattern_transposed": [_pointer, _pointer],
    "triage_pattern_to": [_pointer, Device, _pointer, _pointer],
    "triage_pattern_get_info": [_pointer, _pointer],
    "triage_pattern_crow_indices": [_pointer, _pointer],
    "triage_pattern_col_indices": [_pointer, _pointer],
    "triage_pattern_transposed_positions": [_pointer, _pointer],
    "triage_gather_blocks": [_pointer] * 4,
    "triage_scatter_blocks": [_pointer] * 4,
    "triage_spmm": [_pointer] * 7,
    "triage_spmm_workspace_bytes": [_pointer] * 6,
    "triage_linear": [_pointer] * 8,
    "triage_linear_workspace_bytes": [_pointer] * 7,
    "triage_linear_backward_input": [_pointer] * 6,
    "triage_linear_backward_input_workspace_bytes": [_pointer] * 5,
    "triage_spmm_backward_b": [_pointer] * 7,
    "triage_spmm_backward_b_workspace_bytes": [_pointer] * 6,
    "triage_sddmm": [_pointer] * 7,
    "triage_sddmm_workspace_bytes": [_pointer] * 6,
    "triage_attention_pattern_from_mask": [_pointer, *_attention_sizes, _pointer, _pointer],
    "triage_attention_pattern_from_lists": [_pointer, *_attention_sizes, _pointer, _pointer],
    "triage_attention_pattern_from_csr": [_pointer, _pointer, *_attention_sizes, _pointer, _pointer],
    "triage_attention_pattern_from_pattern": [_pointer] * 3,
    "triage_attention_pattern_update_mask": [_pointer] * 3,
    "triage_attention_pattern_update_lists": [_pointer] * 3,
    "triage_attention_pattern_update_csr": [_pointer] * 4,
    "triage_attention_pattern_set_elements": [_pointer] * 4,
    "triage_attention_pattern_to_mask": [_pointer] * 3,
    "triage_attention_pattern_get_info": [_pointer] * 2,
    "triage_attention_forward": [_pointer] * 8,
    "triage_attention_forward_workspace_bytes": [_pointer] * 7,
    "triage_attention_backward": [_pointer, _pointer, _pointer, ctypes.c_int32, _pointer, _pointer],
    "triage_attention_backward_workspace_bytes": [_pointer, _pointer, _pointer, ctypes.c_int32, _pointer],
    "triage_kernels_json": [Device, _pointer],
}

_loaded = None
_lock = threading.Lock()


def path():
    """The file that is loaded: TRIAGE_LIBRARY if that is set, else the one beside this package."""
    return os.environ.get("TRIAGE_LIBRARY") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "libtriage.so")


def library():
    """The loaded library; loading it needs neither a GPU nor a driver."""
    global _loaded
    if _loaded is None:
        with _lock:
            if _loaded is None:
                _loaded = _load()
    return _loaded


def _load():
    name = path()
    try:
        loaded = ctypes.CDLL(name)
    except OSError as error:
        raise ImportError(
            f"triage_kernels cannot load its library: {error}. `pip install .` in Triage's folder builds it; the "
            "variable TRIAGE_LIBRARY names another file") from error
    for function, arguments in _PROTOTYPES.items():
        try:
            getattr(loaded, function).argtypes = arguments
        except AttributeError:
            raise ImportError(f"{name} has no {function}: it is another version than this package. `pip install .` "
                              "builds both anew") from None
        getattr(loaded, function).restype = ctypes.c_int
    for function in ("triage_pattern_destroy", "triage_attention_pattern_destroy"):
        getattr(loaded, function).argtypes = [_pointer]
        getattr(loaded, function).restype = None
    loaded.triage_cuda_device_count.restype = ctypes.c_int
    for function in ("triage_version", "triage_last_error", "triage_last_kernel"):
        getattr(loaded, function).restype = ctypes.c_char_p
    return loaded


def check(status):
    """Raises what `status` means, with the sentence of this thread's last failed call."""
    if status != OK:
        sentence = library().triage_last_error().decode(errors="replace")
        raise _ERRORS.get(status, InternalError)(sentence)
