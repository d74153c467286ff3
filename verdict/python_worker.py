"""The worker of `triage verdict --python module:function`: Triage's jobs, answered inside of Python.

    python3 triage_python_worker.py LIBTRIAGE_WORKER.SO MODULE:FUNCTION internal-worker [JOB ANSWER]

The program starts it; docs/verdict.md says what the function gets. Tensors are views of Triage's memory: Torch's where torch
can be imported, else (on the CPU) NumPy's.
"""

import ctypes
import importlib
import os
import sys
import traceback

OK, INVALID_ARGUMENT, UNSUPPORTED = 0, 1, 2  # triage_status of triage/c_api.h
CUDA_DEVICE = 2
ACTIVATIONS = ("none", "relu", "gelu", "silu")
SDDMM_LAYOUTS = ("x_yt", "xt_y")


class DLTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
                ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
                ("byte_offset", ctypes.c_uint64)]


class DLManagedTensor(ctypes.Structure):
    pass


Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(DLManagedTensor))
DLManagedTensor._fields_ = [("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", Deleter)]


class SparseGemmProblem(ctypes.Structure):
    _fields_ = ([("operation", ctypes.c_char_p)] + [(name, ctypes.c_int64) for name in ("rows", "cols", "nnz_blocks")] +
                [(name, ctypes.c_int32) for name in ("block_size", "activation", "sddmm_layout")] +
                [(name, ctypes.c_float) for name in ("alpha", "beta")] +
                [(name, DLTensor) for name in ("crow_indices", "col_indices", "values", "in0", "in1", "out", "bias")] +
                [("stream", ctypes.c_void_p)])


class AttentionProblem(ctypes.Structure):
    _fields_ = ([("operation", ctypes.c_char_p)] +
                [(name, ctypes.c_int64) for name in ("batch", "heads", "kv_heads", "seqlen_q", "seqlen_k", "window_left",
                                                     "window_right")] +
                [(name, ctypes.c_int32) for name in ("head_dim", "head_dim_v", "page_size")] +
                [(name, ctypes.c_float) for name in ("softmax_scale", "softcap")] +
                [(name, DLTensor) for name in ("q", "k", "v", "o", "lse", "cu_seqlens_q", "cu_seqlens_k", "seqused_k",
                                               "block_table", "sinks")] +
                [("stream", ctypes.c_void_p)])


try:
    import torch
except ImportError:
    torch = None

_alive = {}  # managed tensors that Torch still refers to, by address


@Deleter
def _release(managed):
    _alive.pop(ctypes.addressof(managed.contents), None)


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


def _torch_view(view):
    lengths = (ctypes.c_int64 * view.ndim)(*view.shape[:view.ndim])
    strides = (ctypes.c_int64 * view.ndim)(*view.strides[:view.ndim])
    managed = DLManagedTensor()
    ctypes.memmove(ctypes.byref(managed.tensor), ctypes.byref(view), ctypes.sizeof(DLTensor))
    managed.tensor.shape, managed.tensor.strides = lengths, strides
    managed.deleter = _release
    _alive[ctypes.addressof(managed)] = (managed, lengths, strides)
    return torch.utils.dlpack.from_dlpack(_new_capsule(ctypes.addressof(managed), b"dltensor", None))


def _numpy_view(view):
    import numpy
    kinds = {(0, 32): "int32", (2, 16): "float16", (2, 32): "float32", (2, 64): "float64"}
    if view.device_type == CUDA_DEVICE or (view.code, view.bits) not in kinds:
        raise NotImplementedError("without torch there are views of fp16, fp32 and fp64 in host memory alone")
    dtype = numpy.dtype(kinds[view.code, view.bits])
    lengths, strides = view.shape[:view.ndim], view.strides[:view.ndim]
    if 0 in lengths:
        return numpy.empty(lengths, dtype)
    elements = 1 + sum((length - 1) * stride for length, stride in zip(lengths, strides))
    memory = (ctypes.c_char * (elements * dtype.itemsize)).from_address(view.data + view.byte_offset)
    return numpy.ndarray(lengths, dtype, memory, strides=[stride * dtype.itemsize for stride in strides])


_views = {}  # by where they lie and how: timed calls come back to the same few


def tensor(view):
    """The tensor that a DLTensor describes; None if there is none."""
    if not view.ndim:
        return None
    key = (view.data, view.device_type, view.code, view.bits, tuple(view.shape[:view.ndim]), tuple(view.strides[:view.ndim]))
    if key not in _views:
        if len(_views) > 512:
            _views.clear()
        _views[key] = _torch_view(view) if torch else _numpy_view(view)
    return _views[key]


class Problem:
    """The fields of the C struct of the same kind (triage/user_kernel.h): tensors as tensors, or None; `activation` and
    `sddmm_layout` as words; `address` is the C struct's own."""

    def __init__(self, pointer):
        self._problem = pointer.contents
        self.address = ctypes.addressof(pointer.contents)

    def __getattr__(self, name):
        value = getattr(self._problem, name)
        if isinstance(value, DLTensor):
            return tensor(value)
        if name == "activation":
            return ACTIVATIONS[value]
        if name == "sddmm_layout":
            return SDDMM_LAYOUTS[value]
        return value.decode() if isinstance(value, bytes) else value


def store(target, result):
    if torch is not None and isinstance(result, torch.Tensor):
        target.copy_(result)
    else:
        target[...] = result


def caller(function, output_names, worker):
    """A C function that calls `function`; what it returns goes to the tensors of these names."""
    def call(pointer):
        try:
            problem = Problem(pointer)
            if torch is not None and problem.stream:
                with torch.cuda.stream(torch.cuda.ExternalStream(problem.stream)):
                    result = function(problem)
                    copy(problem, result)
            else:
                result = function(problem)
                copy(problem, result)
            return OK
        except NotImplementedError as error:
            worker.triage_worker_set_failure(str(error).encode())
            return UNSUPPORTED
        except BaseException as error:  # whatever it is must not pass through C
            last = traceback.extract_tb(error.__traceback__)[-1]
            sentence = f"{type(error).__name__}: {error} ({os.path.basename(last.filename)}:{last.lineno})"
            worker.triage_worker_set_failure(sentence.encode())
            return INVALID_ARGUMENT

    def copy(problem, result):
        if result is None:
            return
        for name, part in zip(output_names(problem), result if isinstance(result, tuple) else (result,)):
            target = getattr(problem, name)
            if target is not None and part is not None:
                store(target, part)
    return call


def find(name):
    module_name, function_name = name.split(":", 1)
    sys.path.insert(0, os.getcwd())
    function = importlib.import_module(module_name)
    for part in function_name.split("."):
        function = getattr(function, part)
    if not callable(function):
        raise TypeError(f"{function_name} is no function")
    return function


def main(library, name, _, job=None, answer=None):
    worker = ctypes.CDLL(library)
    worker.triage_worker_set_failure.argtypes = [ctypes.c_char_p]
    worker.triage_worker_run.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    worker.triage_worker_struct_bytes.restype = ctypes.c_ulong
    keep = []  # C functions must not be collected
    # Answers go to standard output; what the module prints when it is imported does not.
    answers = os.dup(1)
    os.dup2(2, 1)
    try:
        for attention, struct in enumerate((SparseGemmProblem, AttentionProblem)):
            if worker.triage_worker_struct_bytes(attention) != ctypes.sizeof(struct):
                raise RuntimeError("triage_python_worker.py and libtriage_worker.so are of different versions")
        function = find(name)
        kinds = (ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(struct)) for struct in (SparseGemmProblem, AttentionProblem))
        outputs = (lambda problem: ("values",) if problem.operation == "sparse_gemm.sddmm" else ("out",),
                   lambda problem: ("o", "lse"))
        keep = [kind(caller(function, names, worker)) for kind, names in zip(kinds, outputs)]
        worker.triage_worker_set_functions(*keep)
    except Exception as error:
        worker.triage_worker_set_failure(f"{type(error).__name__}: {error}".encode())
    sys.stdout.flush()
    os.dup2(answers, 1)
    os.close(answers)
    return worker.triage_worker_run(job and job.encode(), answer and answer.encode())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
