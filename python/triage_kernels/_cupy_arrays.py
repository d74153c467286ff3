"""The adapter (see _calls.py) of CuPy arrays: GPU memory, on CuPy's current stream."""

import cupy

from . import _frame, _library


def _describe(array):
    code = _frame.DTYPES.get(array.dtype.name)
    if code is None:
        raise _library.UnsupportedError(f"arrays of {array.dtype} are not supported, accepted: "
                                        f"{', '.join(_frame.DTYPES)}")
    size = array.itemsize
    return (array.data.ptr, 2 | array.device.id << 32, code, array.shape,
            tuple(stride // size for stride in array.strides))


def write(frame, slot, array):
    return frame.view(slot, *_describe(array))


def key(array):
    return _describe(array)[1:]


def scratch(size, like):
    with like.device:
        memory = cupy.empty(size, cupy.uint8)  # CuPy's pool aligns to 512 bytes
    return memory, memory.data.ptr


def stream(like):
    return cupy.cuda.get_current_stream(like.device.id).ptr


def array_of(name, value):
    return value if isinstance(value, cupy.ndarray) else cupy.asarray(value)


def rows(array):
    size = array.itemsize
    plain = array.ndim == 0 or array.size == 0 or array.shape[-1] == 1 or array.strides[-1] == size
    return array if plain and all(stride >= 0 for stride in array.strides) else cupy.ascontiguousarray(array)


def empty(shape, like, dtype=None):
    with like.device:
        return cupy.empty(shape, like.dtype if dtype is None else dtype)


def contiguous(array):
    return cupy.ascontiguousarray(array)


def indices(array):
    return cupy.ascontiguousarray(array, dtype=cupy.int32)


float32, uint8 = cupy.float32, cupy.uint8
