"""From index tensors to the library's pattern: how a pattern travels through a PyTorch operator.

Operators take the two index tensors, so that torch.compile, torch.export and state_dict see plain tensors. Here each pair of
them finds its BlockPattern again: by the memory that they show and its version counter. A pattern is built the first time
that its indices are seen, and again after they were written to.

A key cannot be mistaken for that of freed memory that was used again: an entry is believed only while the storages for
which it was made are alive. Writes that PyTorch does not count (through `.data`, NumPy or another library) go unnoticed.
"""

import weakref

from torch.multiprocessing.reductions import StorageWeakRef

from ._pattern import BlockPattern

_patterns = {}  # key -> (weak reference to crow's storage, to col's, function that gives the BlockPattern)


def version(tensor):
    try:
        return tensor._version
    except RuntimeError:  # an inference tensor: it cannot be written to outside of inference mode
        return -1


def _key(crow, col, rows, cols, block_size):
    return (crow.data_ptr(), col.data_ptr(), version(crow), version(col), crow.shape[0], col.shape[0], rows, cols,
            block_size)


def remember(pattern):
    """Enters a pattern that owns its index tensors; it is not kept alive by that."""
    for index in (pattern.crow_indices, pattern.col_indices):
        index._dynamo_static_input_type = "guarded"  # torch._dynamo.mark_static_address, without importing it
    _enter(pattern.crow_indices, pattern.col_indices, pattern, weakref.ref(pattern))


def _enter(crow, col, pattern, get):
    for key in [key for key, entry in _patterns.items() if entry[0].expired() or entry[1].expired()]:
        del _patterns[key]
    _patterns[_key(crow, col, *pattern.shape, pattern.block_size)] = (
        StorageWeakRef(crow.untyped_storage()), StorageWeakRef(col.untyped_storage()), get)


def lookup(crow, col, rows, cols, block_size):
    """The pattern of these index tensors."""
    entry = _patterns.get(_key(crow, col, rows, cols, block_size))
    if entry is not None and not (entry[0].expired() or entry[1].expired()):
        pattern = entry[2]()
        if pattern is not None:
            return pattern
    # It holds no index tensors: not these, whose storages decide how long it is kept, and no copies either, because memory
    # that is allocated here may belong to a CUDA graph's pool.
    pattern = BlockPattern._from_bsr(crow, col, (rows, cols), block_size, copy_indices=False)
    _enter(crow, col, pattern, lambda: pattern)
    return pattern
