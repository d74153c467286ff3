"""The adapter (see _calls.py) of PyTorch tensors: host or GPU, on the current stream of the tensor's device."""

import ctypes
import functools

import torch

from . import _frame, _library
from ._frame import kSlotBytes, packers

DTYPES = {getattr(torch, name): code for name, code in _frame.DTYPES.items()}
DTYPES.update({torch.complex64: _frame.dtype_code(5, 64), torch.complex128: _frame.dtype_code(5, 128)})

try:
    _raw_stream = torch._C._cuda_getCurrentRawStream  # what torch's own compiled code calls
except AttributeError:  # a torch without CUDA

    def _raw_stream(index):
        return torch.cuda.current_stream(index).cuda_stream


def _write_fields(frame, slot, tensor):
    shape, index = tensor.shape, tensor.get_device()
    dimensions = len(shape)
    if dimensions > _frame.kMaxDimensions:
        raise _frame.too_many_dimensions(dimensions)
    offset = slot * kSlotBytes
    address = frame.base + offset
    packers[dimensions](frame.memory, offset, tensor.data_ptr(), 1 if index < 0 else 2 | index << 32, dimensions,
                        DTYPES[tensor.dtype], address + 48, address + 80, 0, *shape, *tensor.stride())
    return address


def _exchange():
    """PyTorch's own functions for tensors in C (DLPack's C exchange API, PyTorch 2.10): the capsule that holds them, and
    the one that fills in a DLTensor; or (None, None). The shape and strides that a DLTensor names are the tensor's: it
    must live until the call has returned."""
    capsule = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    if capsule is None:
        return None, None
    pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi))
    try:
        words = (ctypes.c_void_p * 7).from_address(pointer_of(capsule, b"dlpack_exchange_api"))
    except ValueError:  # a capsule of another name
        return None, None
    major = ctypes.c_uint32.from_address(ctypes.addressof(words)).value  # DLPackVersion; then the API before this one
    if major != 1 or not words[5]:
        return None, None
    # dltensor_from_py_object_no_sync(object, DLTensor* out); a failure has set a Python exception, which ctypes raises.
    return capsule, ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_void_p)(words[5])


_exchange_api, _fill = _exchange()


@functools.lru_cache(maxsize=None)
def builtin(name):
    """One of the functions of python/torch_calls.cpp, which call the library with tensors as they are and answer with a
    status, in a fifth of the time that _calls.py takes; None where PyTorch has no exchange API."""
    if _exchange_api is None:
        return None
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
        ("PyCFunction_NewEx", ctypes.pythonapi))
    return make(ctypes.addressof(ctypes.c_char.in_dll(_library.library(), name)), _exchange_api, None)


def _write_exchanged(frame, slot, tensor):
    address = frame.base + slot * kSlotBytes
    _fill(tensor, address)
    return address


write = _write_fields if _fill is None else _write_exchanged


def key(tensor):
    return tensor.get_device(), tensor.dtype, tensor.shape, tensor.stride()


def scratch(size, like):
    if like.get_device() < 0:
        memory = torch.empty(size + 256, dtype=torch.uint8)
        return memory, (memory.data_ptr() + 255) & ~255
    memory = torch.empty(size, dtype=torch.uint8, device=like.device)  # the allocator aligns to 512 bytes
    return memory, memory.data_ptr()


def stream(like):
    index = like.get_device()
    return 0 if index < 0 else _raw_stream(index)


def array_of(name, value):
    return value


def rows(tensor):
    """`tensor`, copied only if its rows do not lie one after another with inner stride 1."""
    if tensor.is_contiguous():
        return tensor
    dimensions = tensor.dim()
    if dimensions == 0 or tensor.numel() == 0:
        return tensor
    strides = tensor.stride()
    if strides[-1] != 1 and tensor.shape[-1] != 1:
        return tensor.contiguous()
    if dimensions == 2 and strides[0] < tensor.shape[1] and tensor.shape[0] != 1:
        return tensor.contiguous()
    if dimensions > 2 and 0 in strides:
        return tensor.contiguous()
    return tensor


def matrix(tensor):
    """[..., n] as rows that the library takes."""
    if tensor.dim() != 2:
        rows_of_all = 1
        for size in tensor.shape[:-1]:
            rows_of_all *= size
        tensor = tensor.reshape(rows_of_all, tensor.shape[-1])
    return rows(tensor)


def empty(shape, like, dtype=None):
    return torch.empty(shape, dtype=like.dtype if dtype is None else dtype, device=like.device)


def contiguous(tensor):
    return tensor.contiguous()


def indices(tensor):
    return tensor.to(torch.int32).contiguous()


float32, uint8 = torch.float32, torch.uint8
