"""The adapter (see _calls.py) of NumPy arrays, and of what NumPy reads through DLPack: host memory."""

import numpy as np

from . import _frame, _library

_DTYPES = {}
for _name in ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"):
    _DTYPES[np.dtype(_name)] = (_frame.DTYPES[_name], np.dtype(_name).itemsize)


def _dtype(dtype):
    found = _DTYPES.get(dtype)
    if found is None:
        if dtype.name not in _frame.DTYPES:  # bfloat16 of ml_dtypes has that name
            raise _library.UnsupportedError(f"arrays of {dtype} are not supported, accepted: {', '.join(_frame.DTYPES)}")
        found = _DTYPES[dtype] = (_frame.DTYPES[dtype.name], dtype.itemsize)
    return found


def _describe(array):
    code, size = _dtype(array.dtype)
    return (array.__array_interface__["data"][0], _frame.kHost, code, array.shape,
            tuple(stride // size for stride in array.strides))


def write(frame, slot, array):
    return frame.view(slot, *_describe(array))


def key(array):
    return _describe(array)[1:]


def scratch(size, like):
    memory = np.empty(size + 256, np.uint8)
    return memory, (memory.__array_interface__["data"][0] + 255) & ~255


def stream(like):
    return 0


def array_of(name, value):
    """`value` as a NumPy array, without a copy where it is one or speaks DLPack on the host."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "__dlpack__"):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError):  # a dtype that NumPy's DLPack lacks (bfloat16), or a GPU's memory
            if getattr(value, "__dlpack_device__", lambda: (1, 0))()[0] != 1:
                raise _library.InvalidArgumentError(
                    f"{name} is in a GPU's memory; accepted there: PyTorch tensors and CuPy arrays (a JAX array becomes "
                    "either through DLPack)") from None
    return np.asarray(value)


def rows(array):
    """`array`, copied only if its rows do not lie one after another with inner stride 1."""
    size = array.itemsize
    if array.ndim and array.size and (array.strides[-1] != size and array.shape[-1] != 1 or
                                      any(stride < 0 or stride % size for stride in array.strides) or
                                      array.ndim == 2 and array.strides[0] < size * array.shape[1] and array.shape[0] > 1):
        return np.ascontiguousarray(array)
    return array


def empty(shape, like, dtype=None):
    return np.empty(shape, like.dtype if dtype is None else dtype)


def contiguous(array):
    return np.ascontiguousarray(array)


def indices(array):
    return np.ascontiguousarray(array, dtype=np.int32)


float32, uint8 = np.float32, np.uint8
