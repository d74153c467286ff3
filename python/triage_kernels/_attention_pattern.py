"""AttentionPattern: the block-sparse mask of attention, and its handle in the library."""

import ctypes
import itertools
import operator
import struct
import sys

from . import _frame, _library
from ._library import InvalidArgumentError
from ._pattern import BlockPattern, _call, _device_of, _host, adapter_of, is_torch


class AttentionPattern:
    """Which blocks of the scores q k^T are attended: one mask for all, one a head (of q, or of k and v), or one a
    sequence and head.

    Query i attends key j if the block (i // block_q, j // block_k) is listed, and either the block is *full*, or the
    call's causal mask and window let it and, where the block has a mask of elements, that is true. The ends of
    sequences always cut. A query that attends nothing gives 0 and lse = -inf.

    Made by `from_mask`, `from_lists`, `from_topk`, `from_csr`, `from_pattern`, `from_block_mask` (FlexAttention) or
    `from_fa4` where the arrays are: on a GPU nothing comes to the host (but for what evaluates a mask_mod).
    `update_mask`, `update_lists` and `update_csr` put other blocks in their place without allocating or waiting, and
    can be captured in a CUDA graph. block_size is 64, 128 or (block_q, block_k); seqlen_q and seqlen_k are lengths in
    elements (max_seqlen_q and max_seqlen_k of packed sequences).

    `batch`, `heads`, `seqlen_q`, `seqlen_k`, `block_size` (a pair), `has_elements`, `mask()`, `density()`.
    """

    __slots__ = ("handle", "key", "batch", "heads", "seqlen_q", "seqlen_k", "block_size", "has_elements", "blocks",
                 "element_index", "elements", "_like", "__weakref__")

    _keys = itertools.count()

    def __init__(self, *_, **__):
        raise TypeError("make an AttentionPattern with from_mask, from_lists, from_topk, from_csr, from_pattern, "
                        "from_block_mask or from_fa4")

    @classmethod
    def _of(cls, handle, like, owner=True):
        pattern = object.__new__(cls)
        pattern.handle = handle
        pattern.key = next(cls._keys)
        info = _library.AttentionPatternInfo()
        _library.check(_library.library().triage_attention_pattern_get_info(handle, ctypes.addressof(info)))
        pattern.batch, pattern.heads = info.batch, info.heads
        pattern.seqlen_q, pattern.seqlen_k = info.seqlen_q, info.seqlen_k
        pattern.block_size = (info.block_q, info.block_k)
        pattern.has_elements = bool(info.has_elements)
        # What PyTorch's operators see of a pattern: plain tensors, from which it could be made again (_torch_masks.py).
        pattern.blocks = pattern.element_index = pattern.elements = None
        pattern._like = adapter_of(like).empty((0,), like)  # not a view: that would keep the memory of `like`
        if owner and is_torch(like):
            from . import _torch_masks
            _torch_masks.remember(pattern)
        return pattern

    def __del__(self):
        handle, self.handle = getattr(self, "handle", None), None
        if handle and not sys.is_finalizing():
            _library.library().triage_attention_pattern_destroy(handle)

    # ---- Making one ----

    @classmethod
    def from_mask(cls, mask, seqlen_q, seqlen_k, block_size=64):
        """From a mask of blocks, bool or uint8 [batch or 1, heads or kv_heads or 1, q_blocks, k_blocks], or [heads,
        q_blocks, k_blocks] or [q_blocks, k_blocks]: 0 not attended, 1 listed, 2 listed and full."""
        arrays = adapter_of(mask)
        mask = _stacked(arrays, "mask", mask, 4)
        return cls._make("triage_attention_pattern_from_mask", arrays, [mask], seqlen_q, seqlen_k, block_size)

    @classmethod
    def from_lists(cls, indices, seqlen_q, seqlen_k, block_size=64, *, counts=None, full_indices=None,
                   full_counts=None):
        """From lists of key blocks, one a query block: int32 or int64 [batch or 1, heads or kv_heads or 1, q_blocks,
        n], negative ones are none. counts [.., q_blocks]: how many of each list count. full_indices, full_counts:
        blocks that are attended in full, likewise."""
        arrays = adapter_of(indices)
        return cls._make("triage_attention_pattern_from_lists", arrays,
                         _lists(arrays, indices, counts, full_indices, full_counts), seqlen_q, seqlen_k, block_size)

    @classmethod
    def from_topk(cls, indices, seqlen_q, seqlen_k, block_size=64):
        """From the k best key blocks of each query block, [batch or 1, heads or kv_heads or 1, q_blocks, k], as topk
        gives them: in any order."""
        return cls.from_lists(indices, seqlen_q, seqlen_k, block_size)

    @classmethod
    def from_csr(cls, crow_indices, col_indices, seqlen_q, seqlen_k, block_size=64):
        """From CSR arrays (int32 or int64) with a row for each query block of each mask: crow_indices [batch or 1,
        heads or kv_heads or 1, q_blocks + 1], positions in col_indices [entries]."""
        arrays = adapter_of(crow_indices)
        return cls._make("triage_attention_pattern_from_csr", arrays, _csr(arrays, crow_indices, col_indices), seqlen_q,
                         seqlen_k, block_size)

    @classmethod
    def from_pattern(cls, pattern):
        """From a BlockPattern with blocks of 64 or 128, whose shape is (seqlen_q, seqlen_k): one mask for all heads."""
        if not isinstance(pattern, BlockPattern):
            raise InvalidArgumentError(f"pattern is a {type(pattern).__name__}, accepted: a BlockPattern")
        like = pattern.crow_indices
        with _device_of(like):
            handle = _call("triage_attention_pattern_from_pattern", pattern.handle, adapter_of(like).stream(like))
        return cls._of(handle, like)

    @classmethod
    def from_block_mask(cls, block_mask, seqlen_q=None, seqlen_k=None):
        """From a BlockMask of torch.nn.attention.flex_attention with blocks of 64 or 128: full blocks become full,
        partial ones get the elements for which mask_mod is true (the number of those blocks is read on the host).

        mask_mod is called with int64 tensors of several dimensions that broadcast with each other, not under vmap. The
        lengths are the BlockMask's; where PyTorch does not keep them there (before 2.6), give them."""
        lengths = getattr(block_mask, "seq_lengths", None) or block_mask.shape[-2:]
        seqlen_q = lengths[0] if seqlen_q is None else seqlen_q
        seqlen_k = lengths[1] if seqlen_k is None else seqlen_k
        return cls.from_fa4(block_mask.kv_num_blocks, block_mask.kv_indices, block_mask.full_kv_num_blocks,
                            block_mask.full_kv_indices, seqlen_q=seqlen_q, seqlen_k=seqlen_k,
                            block_size=tuple(block_mask.BLOCK_SIZE), mask_mod=block_mask.mask_mod)

    @classmethod
    def from_fa4(cls, mask_block_cnt, mask_block_idx, full_block_cnt=None, full_block_idx=None, *, seqlen_q, seqlen_k,
                 block_size=128, mask_mod=None):
        """From FlashAttention-4's block tensors: counts [batch, heads, q_blocks] and indices [batch, heads, q_blocks,
        n] of blocks that are masked in part, and of those that are not. mask_mod(b, h, q_idx, kv_idx), in PyTorch, says
        which elements of the former are attended (see from_block_mask); without it the call's causal mask and window
        do."""
        pattern = cls.from_lists(mask_block_idx, seqlen_q, seqlen_k, block_size, counts=mask_block_cnt,
                                 full_indices=full_block_idx, full_counts=full_block_cnt)
        if mask_mod is not None:
            if not is_torch(mask_block_idx):
                raise InvalidArgumentError("mask_mod is given with arrays that are no PyTorch tensors, accepted: those")
            from . import _torch_masks
            _torch_masks.evaluate(pattern, mask_mod)
        return pattern

    @classmethod
    def _make(cls, function, arrays, sources, seqlen_q, seqlen_k, block_size, owner=True):
        block_q, block_k = _blocks(block_size)
        like = sources[0]
        with _device_of(like), _Views(arrays, function, sources) as views:
            handle = _call(function, *views, int(seqlen_q), int(seqlen_k), block_q, block_k, arrays.stream(like))
        return cls._of(handle, like, owner)

    # ---- Other blocks ----

    def update_mask(self, mask):
        """Other blocks, from a mask of the same shape as the pattern's."""
        arrays = adapter_of(mask)
        self._update("triage_attention_pattern_update_mask", arrays, [_stacked(arrays, "mask", mask, 4)])

    def update_lists(self, indices, *, counts=None, full_indices=None, full_counts=None):
        """Other blocks, from lists; n may be another."""
        arrays = adapter_of(indices)
        self._update("triage_attention_pattern_update_lists", arrays,
                     _lists(arrays, indices, counts, full_indices, full_counts))

    def update_topk(self, indices):
        """Other blocks, from top-k indices."""
        self.update_lists(indices)

    def update_csr(self, crow_indices, col_indices):
        """Other blocks, from CSR arrays; the number of entries may be another."""
        arrays = adapter_of(crow_indices)
        self._update("triage_attention_pattern_update_csr", arrays, _csr(arrays, crow_indices, col_indices))

    def set_elements(self, index, elements):
        """Masks of the elements of blocks that are listed and not full. index: int32 as `mask()`, which of `elements`
        belongs to a block, -1 none; elements: bool or uint8 [n, block_q, block_k], true where a query attends a key.
        PyTorch tensors are kept: whoever writes to them calls this again."""
        arrays = adapter_of(elements)
        index = _stacked(arrays, "index", index, 4)
        elements = arrays.contiguous(arrays.array_of("elements", elements))
        self._update("triage_attention_pattern_set_elements", arrays, [index, elements])
        self.has_elements = True
        if self.blocks is not None:
            self.element_index, self.elements = index, elements

    def _update(self, function, arrays, sources):
        if adapter_of(self._like) is not arrays:
            raise InvalidArgumentError(f"the arrays are of another kind than those that the pattern was made from "
                                       f"({type(self._like).__module__})")
        with _device_of(self._like), _Views(arrays, function, sources) as views:
            _library.check(getattr(_library.library(), function)(self.handle, *views, arrays.stream(self._like)))
        if self.blocks is not None:
            from . import _torch_masks
            _torch_masks.refresh(self)

    # ---- What it holds ----

    def mask(self):
        """The blocks as from_mask takes them: a new uint8 array [batch, heads, q_blocks, k_blocks], where the pattern
        is."""
        arrays = adapter_of(self._like)
        shape = (self.batch, self.heads, -(-self.seqlen_q // self.block_size[0]),
                 -(-self.seqlen_k // self.block_size[1]))
        mask = arrays.empty(shape, self._like, arrays.uint8)
        self._write_mask(arrays, mask)
        return mask

    def _write_mask(self, arrays, mask):
        with _device_of(mask), _Views(arrays, "", [mask]) as views:
            _library.check(_library.library().triage_attention_pattern_to_mask(
                self.handle, *views, arrays.stream(mask)))

    def density(self):
        """The share of blocks that are listed; read on the host."""
        mask = _host(self.mask())
        return float((mask != 0).mean()) if mask.size else 0.0

    def to(self, device):
        """The same blocks and elements on another PyTorch device ("cpu", "cuda:1")."""
        import torch
        mask = torch.as_tensor(self.mask())
        moved = mask.to(device)
        if is_torch(self._like) and moved.device == mask.device:
            return self
        return _restore(moved, *self._sizes(), *(None if array is None else torch.as_tensor(array).to(device)
                                                 for array in self._elements()))

    def _sizes(self):
        return self.seqlen_q, self.seqlen_k, self.block_size

    def _elements(self):
        if self.has_elements and self.blocks is None:
            raise InvalidArgumentError("a pattern of arrays other than PyTorch's does not keep its elements; make it "
                                       "anew from them")
        return self.element_index, self.elements

    def __reduce__(self):
        return _restore, (self.mask(), *self._sizes(), *self._elements())

    def __repr__(self):
        return (f"AttentionPattern({self.batch} x {self.heads} masks of {self.seqlen_q} x {self.seqlen_k}, blocks of "
                f"{self.block_size[0]} x {self.block_size[1]}{', with elements' if self.has_elements else ''})")


def _restore(mask, seqlen_q, seqlen_k, block_size, index, elements):
    pattern = AttentionPattern.from_mask(mask, seqlen_q, seqlen_k, block_size)
    if index is not None:
        pattern.set_elements(index, elements)
    return pattern


class _Views:
    """The arguments that a function of the library takes for these arrays, in a frame that is held meanwhile."""

    def __init__(self, arrays, function, sources):
        self.frame = _frame.take()
        try:
            self.views = [None if array is None else arrays.write(self.frame, slot, array)
                          for slot, array in enumerate(sources)]
        except BaseException:
            _frame.give_back(self.frame)
            raise
        if function.endswith("_lists"):
            self.views = [self.frame.pack(_four_addresses, *(view or 0 for view in self.views))]

    def __enter__(self):
        return self.views

    def __exit__(self, *_):
        _frame.give_back(self.frame)
        return False


_four_addresses = struct.Struct("<4Q").pack_into


def _stacked(arrays, name, array, dimensions):
    """`array`, contiguous, with leading dimensions of 1 (sequence, head) where they are left out."""
    array = arrays.contiguous(arrays.array_of(name, array))
    given = len(array.shape)
    if dimensions - 2 <= given < dimensions:
        array = array.reshape((1,) * (dimensions - given) + tuple(array.shape))
    return array


def _lists(arrays, indices, counts, full_indices, full_counts):
    sources = [_stacked(arrays, "indices", indices, 4)]
    for name, array, dimensions in (("counts", counts, 3), ("full_indices", full_indices, 4),
                                    ("full_counts", full_counts, 3)):
        sources.append(None if array is None else _stacked(arrays, name, array, dimensions))
    return sources


def _csr(arrays, crow_indices, col_indices):
    return [_stacked(arrays, "crow_indices", crow_indices, 3),
            arrays.contiguous(arrays.array_of("col_indices", col_indices))]


def _blocks(block_size):
    try:
        block_q, block_k = block_size if isinstance(block_size, (tuple, list)) else (block_size, block_size)
        return operator.index(block_q), operator.index(block_k)
    except (TypeError, ValueError):
        raise InvalidArgumentError(f"block_size is {block_size!r}, accepted: 64, 128 or (block_q, block_k)") from None
