"""Triage's kernels in Python: block-sparse products and attention for PyTorch tensors, NumPy arrays and what speaks
DLPack.

    sparse_linear, spmm, sddmm, attention    functions; for PyTorch also operators (torch.ops.triage)
    block_sparse_attention                   likewise
    BlockPattern                             which blocks of a matrix exist
    AttentionPattern                         which blocks of attention's scores are attended
    BlockSparseLinear, prune_                modules (PyTorch)
    kernels, last_kernel, cuda_device_count  what the library can do here, and what ran
    Error                                    and its subclasses: ValueError, NotImplementedError, MemoryError,
                                             RuntimeError

PyTorch is imported only where it is used. docs/python.md has examples.
"""

import sys

from ._attention_pattern import AttentionPattern
from ._functions import attention, block_sparse_attention, sddmm, sparse_linear, spmm
from ._information import cuda_device_count, kernels, last_kernel, library_version
from ._library import (CudaError, Error, InternalError, InvalidArgumentError, OutOfMemoryError, UnsupportedError)
from ._pattern import BlockPattern

linear = sparse_linear

__all__ = [
    "AttentionPattern", "BlockPattern", "BlockSparseLinear", "CudaError", "Error", "InternalError",
    "InvalidArgumentError", "OutOfMemoryError", "UnsupportedError", "attention", "block_sparse_attention",
    "cuda_device_count", "kernels", "last_kernel", "library_version", "linear", "prune_", "sddmm", "sparse_linear",
    "spmm"
]


def __getattr__(name):
    if name in ("BlockSparseLinear", "prune_"):
        from . import nn
        return getattr(nn, name)
    raise AttributeError(f"module 'triage_kernels' has no attribute {name!r}")


def __dir__():
    return sorted(set(globals()) | set(__all__))


if "torch" in sys.modules:
    from . import _torch_functions, ops  # registers torch.ops.triage, for programs that were exported elsewhere
