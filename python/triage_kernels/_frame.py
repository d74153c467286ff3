"""Arguments of a C call, packed into memory that is used again: what a call costs before it reaches the library.

A frame holds DLTensor structs with their shapes and strides (one slot each) and room for options and a workspace. A call
takes a frame from the pool, writes into it with `struct`, and gives it back; two threads never hold the same one.
"""

import ctypes
import struct

kSlotBytes = 112  # DLTensor (48), shape (4 * 8), strides (4 * 8)
kSlots = 16
kExtra = kSlots * kSlotBytes  # where options and workspace stand
kBytes = kExtra + 256

kMaxDimensions = 4
# DLTensor with its shape and strides behind it: packers[n](memory, offset, data, device, n, dtype, address of the shape, of
# the strides, byte offset 0, *shape, *strides).
packers = [
    struct.Struct(f"<QQiIQQQ{n}q{8 * (kMaxDimensions - n)}x{n}q").pack_into for n in range(kMaxDimensions + 1)
]
_workspace = struct.Struct("<QQ").pack_into

kHost = 1  # kDLCPU, device 0: the type in the low half, the index in the high half


def dtype_code(code, bits):
    """DLDataType as one number: kind (0 int, 1 uint, 2 float, 4 bfloat, 6 bool), bits, one lane."""
    return code | bits << 8 | 1 << 16


INT32, INT64 = dtype_code(0, 32), dtype_code(0, 64)
DTYPES = {
    "float16": dtype_code(2, 16),
    "bfloat16": dtype_code(4, 16),
    "float32": dtype_code(2, 32),
    "float64": dtype_code(2, 64),
    "int8": dtype_code(0, 8),
    "int16": dtype_code(0, 16),
    "int32": INT32,
    "int64": INT64,
    "uint8": dtype_code(1, 8),
    "bool": dtype_code(6, 8),
}


def too_many_dimensions(dimensions):
    from ._library import InvalidArgumentError
    return InvalidArgumentError(f"a tensor has {dimensions} dimensions, accepted: up to {kMaxDimensions}")


class Frame:
    __slots__ = ("memory", "base")

    def __init__(self):
        self.memory = ctypes.create_string_buffer(kBytes)
        self.base = ctypes.addressof(self.memory)

    def view(self, slot, data, device, dtype, shape, strides):
        """Writes a DLTensor and returns its address."""
        dimensions = len(shape)
        if dimensions > kMaxDimensions:
            raise too_many_dimensions(dimensions)
        offset = slot * kSlotBytes
        address = self.base + offset
        packers[dimensions](self.memory, offset, data, device, dimensions, dtype, address + 48, address + 80, 0, *shape,
                           *strides)
        return address

    def workspace(self, data, size):
        """Writes a triage_workspace and returns its address."""
        _workspace(self.memory, kBytes - 16, data, size)
        return self.base + kBytes - 16

    def pack(self, packer, *values):
        """Writes an options struct and returns its address."""
        packer(self.memory, kExtra, *values)
        return self.base + kExtra

    def size_slot(self):
        """Address of a size_t to be written by the library."""
        return self.base + kBytes - 24

    def read_size(self):
        return int.from_bytes(self.memory[kBytes - 24:kBytes - 16], "little")


_pool = []


def take():
    try:
        return _pool.pop()
    except IndexError:
        return Frame()


def give_back(frame):
    _pool.append(frame)
