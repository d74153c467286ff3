"""From plain tensors to the library's attention pattern: how an AttentionPattern travels through a PyTorch operator.

Operators take the mask of blocks, and the masks of elements where there are any, so that torch.compile, torch.export
and autograd see plain tensors. Here the mask of blocks finds the AttentionPattern that owns it, by the memory that it
shows; where nobody owns it (a program that was exported, a copy), one is made from the tensors and kept while they live
and are not written to. An update of a pattern counts as a write to its mask: PyTorch then refuses a backward that needs
the blocks from before.
"""

import weakref

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from . import _torch_arrays as arrays
from ._attention_pattern import AttentionPattern
from ._torch_patterns import version

kElementsAtOnce = 1 << 24  # for which mask_mod is evaluated

_patterns = {}  # key -> (weak references to the storages, function that gives the AttentionPattern)


def remember(pattern):
    """Gives a new pattern its mask of blocks."""
    with torch.inference_mode(False):
        pattern.blocks = pattern.mask()
    # torch._dynamo.mark_static_address, without importing it. Guarded: what was compiled, or captured in a CUDA graph,
    # for one pattern must not serve another, whose tensors may have come to the same address.
    pattern.blocks._dynamo_static_input_type = "guarded"
    _enter(_owned_key(pattern.blocks, *pattern._sizes()), [pattern.blocks], weakref.ref(pattern))


def refresh(pattern):
    """Writes the mask of blocks anew after an update."""
    pattern._write_mask(arrays, pattern.blocks)
    torch.autograd.graph.increment_version(pattern.blocks)


def _owned_key(blocks, seqlen_q, seqlen_k, block_size):
    return blocks.data_ptr(), blocks.get_device(), tuple(blocks.shape), seqlen_q, seqlen_k, tuple(block_size)


def _enter(key, tensors, get):
    for old in [old for old, entry in _patterns.items() if any(storage.expired() for storage in entry[0])]:
        del _patterns[old]
    _patterns[key] = ([StorageWeakRef(tensor.untyped_storage()) for tensor in tensors], get)


def _find(key):
    entry = _patterns.get(key)
    if entry is None or any(storage.expired() for storage in entry[0]):
        return None
    return entry[1]()


def lookup(blocks, element_index, elements, seqlen_q, seqlen_k, block_size):
    """The pattern of these tensors."""
    key = _owned_key(blocks, seqlen_q, seqlen_k, block_size)
    pattern = _find(key)
    if pattern is not None:
        return pattern
    tensors = [blocks] if element_index is None else [blocks, element_index, elements]
    key = (key, *((tensor.data_ptr(), version(tensor), tuple(tensor.shape)) for tensor in tensors))
    pattern = _find(key)
    if pattern is None:
        # It keeps none of these tensors, whose storages decide how long it is kept.
        pattern = AttentionPattern._make("triage_attention_pattern_from_mask", arrays, [blocks.contiguous()], seqlen_q,
                                         seqlen_k, block_size, owner=False)
        if element_index is not None:
            pattern.set_elements(element_index, elements)
        _enter(key, tensors, lambda: pattern)
    return pattern


def evaluate(pattern, mask_mod):
    """Gives the blocks that are listed and not full the elements for which mask_mod(b, h, q_idx, kv_idx) is true."""
    partial = pattern.blocks == 1
    places = partial.nonzero()  # [n, 4]: sequence, head, query block, key block
    n = places.shape[0]
    if n == 0:
        return
    block_q, block_k = pattern.block_size
    device = pattern.blocks.device
    elements = torch.empty((n, block_q, block_k), dtype=torch.bool, device=device)
    for begin in range(0, n, max(1, kElementsAtOnce // (block_q * block_k))):
        some = places[begin:begin + max(1, kElementsAtOnce // (block_q * block_k))]
        b, h, row, col = (some[:, i, None, None] for i in range(4))
        # Elements past the ends are never attended; there mask_mod, which may look into tables, is asked about the last
        # one.
        query = (row * block_q + torch.arange(block_q, device=device)[:, None]).clamp(max=pattern.seqlen_q - 1)
        key = (col * block_k + torch.arange(block_k, device=device)).clamp(max=pattern.seqlen_k - 1)
        elements[begin:begin + len(some)] = mask_mod(b, h, query, key)
    index = torch.full(partial.shape, -1, dtype=torch.int32, device=device)
    index[partial] = torch.arange(n, dtype=torch.int32, device=device)
    pattern.set_elements(index, elements)
