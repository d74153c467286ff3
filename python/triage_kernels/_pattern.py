"""BlockPattern: which blocks of a block-sparse matrix exist, and its handle in the library."""

import ctypes
import itertools
import sys

import numpy as np

from . import _frame, _library
from ._library import InvalidArgumentError

BLOCK_SIZES = (16, 32, 64, 128)


def is_torch(value):
    """Whether `value` is a tensor of PyTorch; imports nothing."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_scipy_bsr(value):
    return getattr(value, "format", None) == "bsr" and hasattr(value, "indptr") and hasattr(value, "blocksize")


def is_torch_bsr(value):
    return is_torch(value) and value.layout is sys.modules["torch"].sparse_bsr


def adapter_of(value):
    """The module that knows arrays of this kind (see _calls.py)."""
    if is_torch(value):
        from . import _torch_arrays
        return _torch_arrays
    if type(value).__module__.partition(".")[0] == "cupy":
        from . import _cupy_arrays
        return _cupy_arrays
    from . import _numpy_arrays
    return _numpy_arrays


def _call(function, *arguments):
    """A function of the library that makes a pattern: its handle."""
    made = ctypes.c_void_p()
    _library.check(getattr(_library.library(), function)(*arguments, ctypes.addressof(made)))
    return made.value


def _square(blocksize):
    if blocksize[0] != blocksize[1]:
        raise InvalidArgumentError(f"the blocks are {blocksize[0]} x {blocksize[1]}, accepted: square blocks of 16, 32, "
                                   "64 or 128")
    return blocksize[0]


class BlockPattern:
    """Which blocks of a rows x cols matrix exist, in BSR form: block row i holds the block columns
    col_indices[crow_indices[i]:crow_indices[i + 1]], ascending and unique.

    Made once, by `from_bsr`, `from_mask`, `from_dense`, `from_scipy` or `from_torch`: the library then builds the
    transposed twin and the schedules of its kernels, on the GPU where the indices are there. Immutable. block_size is
    16, 32, 64 or 128; the last block row and column may be ragged, the values hold whole blocks all the same.

    `shape`, `block_size`, `block_shape` (block rows, block columns), `nnz_blocks`, `density`; `crow_indices` and
    `col_indices` are int32 arrays of the kind that the pattern was made from.
    """

    __slots__ = ("handle", "key", "shape", "block_size", "block_shape", "nnz_blocks", "density", "_indices",
                 "_like", "_twin", "_positions", "__weakref__")

    _keys = itertools.count()

    def __init__(self, *_, **__):
        raise TypeError("make a BlockPattern with from_bsr, from_mask, from_dense, from_scipy or from_torch")

    @classmethod
    def _of(cls, handle, like, copy_indices=True):
        """`like`: an array of the kind and the memory that the indices shall have."""
        pattern = object.__new__(cls)
        pattern.handle = handle
        pattern.key = next(cls._keys)
        pattern._twin = pattern._positions = pattern._indices = None
        pattern._like = adapter_of(like).empty((0,), like)  # not a view: that would keep the memory of `like`
        info = _library.PatternInfo()
        _library.check(_library.library().triage_pattern_get_info(handle, ctypes.addressof(info)))
        pattern.shape = (info.rows, info.cols)
        pattern.block_size = info.block_size
        pattern.block_shape = (info.block_rows, info.block_cols)
        pattern.nnz_blocks = info.nnz_blocks
        pattern.density = info.density
        if copy_indices:
            pattern._copy_both_indices()
        return pattern

    def _copy_both_indices(self):
        self._indices = tuple(self._copy_indices(f"triage_pattern_{name}_indices") for name in ("crow", "col"))
        if is_torch(self._like):
            from . import _torch_patterns
            _torch_patterns.remember(self)

    @property
    def crow_indices(self):
        if self._indices is None:
            self._copy_both_indices()
        return self._indices[0]

    @property
    def col_indices(self):
        if self._indices is None:
            self._copy_both_indices()
        return self._indices[1]

    def __del__(self):
        handle, self.handle = getattr(self, "handle", None), None
        if handle and not sys.is_finalizing():
            _library.library().triage_pattern_destroy(handle)

    def _copy_indices(self, function):
        """One of the library's index arrays as an array of our own."""
        view = _library.TensorView()
        _library.check(getattr(_library.library(), function)(self.handle, ctypes.addressof(view)))
        if view.device_type != 1:
            return _DeviceView(view, self).to(self._like)
        host = np.empty(view.shape[0], np.int32)
        if host.size:
            ctypes.memmove(host.ctypes.data, view.data, 4 * host.size)
        if not is_torch(self._like):
            return host
        import torch
        return torch.from_numpy(host)

    @classmethod
    def from_bsr(cls, crow_indices, col_indices, shape, block_size):
        """From BSR index arrays (int32 or int64; SciPy's indptr and indices) and the matrix's shape in elements."""
        return cls._from_bsr(crow_indices, col_indices, shape, block_size)

    @classmethod
    def _from_bsr(cls, crow_indices, col_indices, shape, block_size, copy_indices=True):
        arrays = adapter_of(crow_indices)
        crow = arrays.contiguous(arrays.array_of("crow_indices", crow_indices))
        col = arrays.contiguous(arrays.array_of("col_indices", col_indices))
        frame = _frame.take()
        try:
            with _device_of(crow):
                handle = _call("triage_pattern_from_bsr", arrays.write(frame, 0, crow),
                               arrays.write(frame, 1, col), *_two("shape", shape), int(block_size),
                               arrays.stream(crow))
        finally:
            _frame.give_back(frame)
        return cls._of(handle, crow, copy_indices)

    @classmethod
    def from_mask(cls, mask, block_size, shape=None):
        """From a boolean mask of blocks [block rows, block columns]; `shape` defaults to whole blocks."""
        arrays = adapter_of(mask)
        mask = arrays.contiguous(arrays.array_of("mask", mask))
        if shape is None:
            if len(mask.shape) != 2:
                raise InvalidArgumentError(f"mask has {len(mask.shape)} dimensions, accepted: 2 (a block a entry)")
            shape = (mask.shape[0] * block_size, mask.shape[1] * block_size)
        frame = _frame.take()
        try:
            with _device_of(mask):
                handle = _call("triage_pattern_from_mask", arrays.write(frame, 0, mask), *_two("shape", shape),
                               int(block_size), arrays.stream(mask))
        finally:
            _frame.give_back(frame)
        return cls._of(handle, mask)

    @classmethod
    def from_dense(cls, matrix, block_size):
        """From a dense matrix: blocks that are all zero drop out."""
        arrays = adapter_of(matrix)
        matrix = arrays.rows(arrays.array_of("matrix", matrix.detach() if is_torch(matrix) else matrix))
        frame = _frame.take()
        try:
            with _device_of(matrix):
                handle = _call("triage_pattern_from_dense", arrays.write(frame, 0, matrix), int(block_size),
                               arrays.stream(matrix))
        finally:
            _frame.give_back(frame)
        return cls._of(handle, matrix)

    @classmethod
    def from_scipy(cls, matrix):
        """From a SciPy bsr_array or bsr_matrix with square blocks. Its indices are sorted first, in a copy, if need be;
        `values_of` gives the values in the same order."""
        matrix = _sorted_scipy(matrix)
        return cls.from_bsr(matrix.indptr, matrix.indices, matrix.shape, _square(matrix.blocksize))

    @classmethod
    def from_torch(cls, matrix):
        """From a torch.sparse_bsr tensor with square blocks."""
        return cls.from_bsr(matrix.crow_indices(), matrix.col_indices(), tuple(matrix.shape),
                            _square(tuple(matrix.values().shape[-2:])))

    def transposed(self):
        """The pattern of the transposed matrix; it was built with this one."""
        if self._twin is None:
            handle = _call("triage_pattern_transposed", self.handle)
            self._twin = BlockPattern._of(handle, self._like)
        return self._twin

    def transposed_positions(self):
        """int32 [nnz_blocks]: where block i of the transposed twin stands in this pattern's values."""
        if self._positions is None:
            self._positions = self._copy_indices("triage_pattern_transposed_positions")
        return self._positions

    def to(self, device):
        """The same pattern on another PyTorch device ("cpu", "cuda:1")."""
        import torch
        crow, col = (torch.as_tensor(index).to(device) for index in (self.crow_indices, self.col_indices))
        if is_torch(self.crow_indices) and crow.device == self.crow_indices.device:
            return self
        return BlockPattern.from_bsr(crow, col, self.shape, self.block_size)

    def mask(self):
        """Which blocks exist, as a boolean array [block rows, block columns] on the host."""
        crow, col = (_host(index) for index in (self.crow_indices, self.col_indices))
        mask = np.zeros(self.block_shape, bool)
        mask[np.repeat(np.arange(self.block_shape[0]), np.diff(crow)), col] = True
        return mask

    def gather(self, matrix):
        """The blocks of a dense matrix: values [nnz_blocks, block_size, block_size]; 0 in the padding."""
        arrays = adapter_of(matrix)
        matrix = arrays.rows(arrays.array_of("matrix", matrix))
        values = arrays.empty((self.nnz_blocks, self.block_size, self.block_size), matrix)
        self._copy_blocks("triage_gather_blocks", arrays, matrix, values)
        return values

    def scatter(self, values):
        """The dense matrix with these values in its blocks, and 0 elsewhere."""
        arrays = adapter_of(values)
        values = arrays.contiguous(arrays.array_of("values", values))
        matrix = arrays.empty(self.shape, values)
        self._copy_blocks("triage_scatter_blocks", arrays, values, matrix)
        return matrix

    def _copy_blocks(self, function, arrays, source, target):
        if is_torch(source):
            source, target = source.detach(), target.detach()
        frame = _frame.take()
        try:
            with _device_of(source):
                _library.check(getattr(_library.library(), function)(
                    self.handle, arrays.write(frame, 0, source), arrays.write(frame, 1, target),
                    arrays.stream(source)))
        finally:
            _frame.give_back(frame)

    def __reduce__(self):
        return BlockPattern.from_bsr, (self.crow_indices, self.col_indices, self.shape, self.block_size)

    def __repr__(self):
        return (f"BlockPattern({self.shape[0]} x {self.shape[1]}, block {self.block_size}, {self.nnz_blocks} blocks, "
                f"density {self.density:.3g})")


class _DeviceView:
    """A library's array on a GPU for __cuda_array_interface__."""

    def __init__(self, view, owner):
        self.owner = owner
        self.__cuda_array_interface__ = {"shape": (view.shape[0],), "typestr": "<i4", "version": 2,
                                         "data": (view.data or 0, False), "strides": None}

    def to(self, like):
        count = self.__cuda_array_interface__["shape"][0]
        if is_torch(like):
            import torch
            if count == 0:
                return torch.empty(0, dtype=torch.int32, device=like.device)
            return torch.as_tensor(self, device=like.device).clone()
        import cupy
        return cupy.array(self, copy=True) if count else cupy.empty(0, cupy.int32)


class _Nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


_nothing = _Nothing()


def _device_of(array):
    """Makes the array's GPU the current one, as the CUDA runtime wants it."""
    if is_torch(array):
        if array.get_device() >= 0:
            import torch
            return torch.cuda.device(array.get_device())
        return _nothing
    device = getattr(array, "device", None)
    return device if hasattr(device, "__enter__") else _nothing  # CuPy's


def _host(array):
    if is_torch(array):
        return array.cpu().numpy()
    return array.get() if hasattr(array, "get") else np.asarray(array)


def _two(name, shape):
    try:
        rows, cols = shape
        return int(rows), int(cols)
    except (TypeError, ValueError):
        raise InvalidArgumentError(f"{name} is {shape!r}, accepted: (rows, cols)") from None


def _sorted_scipy(matrix):
    if not is_scipy_bsr(matrix):
        raise InvalidArgumentError(f"a {type(matrix).__name__} is no SciPy BSR matrix; .tobsr() makes one")
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
        matrix.sort_indices()
    return matrix


def sparse_operand(name, matrix):
    """What the functions take as a block-sparse matrix, as (values, pattern): a SciPy BSR matrix, a torch.sparse_bsr
    tensor, or such a pair."""
    if isinstance(matrix, (tuple, list)):
        if len(matrix) == 2 and isinstance(matrix[1], BlockPattern):
            return matrix[0], matrix[1]
    elif is_scipy_bsr(matrix):
        matrix = _sorted_scipy(matrix)
        return matrix.data, BlockPattern.from_scipy(matrix)
    elif is_torch_bsr(matrix):
        if matrix.requires_grad:
            raise InvalidArgumentError(f"{name} is a torch.sparse_bsr tensor that requires a gradient; pass (values, "
                                       "pattern) instead and let the values require it")
        from . import _torch_patterns
        return matrix.values(), _torch_patterns.lookup(
            matrix.crow_indices(), matrix.col_indices(), *matrix.shape, _square(tuple(matrix.values().shape[-2:])))
    raise InvalidArgumentError(f"{name} is a {type(matrix).__name__}; accepted: (values, BlockPattern), a SciPy BSR matrix, "
                               "a torch.sparse_bsr tensor")
