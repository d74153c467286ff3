"""Modules: BlockSparseLinear in place of nn.Linear, and prune_, which puts it there."""

import warnings

import torch
from torch import nn

from ._library import InvalidArgumentError
from ._pattern import BLOCK_SIZES, BlockPattern, is_scipy_bsr, is_torch_bsr, sparse_operand
from ._torch_functions import _direct, _ops
from ._torch_patterns import lookup, version
from .ops import inside, run_sparse_linear


class BlockSparseLinear(nn.Module):
    """y = x W^T + bias with a block-sparse W [out_features, in_features]: nn.Linear whose weight has blocks missing.

    Give either `density` (that share of the blocks of each block row, at random places: for training from scratch) or
    `pattern` (a BlockPattern, or a boolean mask of blocks). `from_linear` prunes a trained layer.

    The parameter `values` [nnz_blocks, block, block] holds the blocks that exist; the buffers `crow_indices` and
    `col_indices` say where they are, so that state_dict carries the pattern and a state_dict of another pattern of the same
    layer can be loaded. Sizes need not be multiples of the block; the padding is ignored and gets no gradient.
    """

    def __init__(self, in_features, out_features, block=64, *, density=None, pattern=None, bias=True, device=None,
                 dtype=None):
        super().__init__()
        if (density is None) == (pattern is None):
            raise InvalidArgumentError("give either density or pattern")
        if block not in BLOCK_SIZES:
            raise InvalidArgumentError(f"block is {block}, accepted: 16, 32, 64 or 128")
        if pattern is None:
            pattern = _random_mask(out_features, in_features, block, density)
        if not isinstance(pattern, BlockPattern):
            pattern = BlockPattern.from_mask(torch.as_tensor(pattern, device=device), block, (out_features, in_features))
        if pattern.shape != (out_features, in_features) or pattern.block_size != block:
            raise InvalidArgumentError(f"pattern is {pattern}, accepted: {out_features} x {in_features}, block {block}")
        self.in_features, self.out_features, self.block = in_features, out_features, block
        self._seen = None
        self.values = nn.Parameter(torch.empty((pattern.nnz_blocks, block, block), device=device, dtype=dtype))
        for name in ("crow_indices", "col_indices"):
            self.register_buffer(name, torch.as_tensor(getattr(pattern, name)).to(self.values.device).clone())
        if bias:
            self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        """As nn.Linear's, with the fan-in that is left on average: the variance of the outputs stays what it was."""
        fan_in = max(1.0, self.in_features * self.density)
        nn.init.uniform_(self.values, -(fan_in**-0.5), fan_in**-0.5)
        with torch.no_grad():
            self.values.mul_(inside(self.crow_indices, self.col_indices, self.block, self.out_features,
                                    self.in_features))
        if self.bias is not None:
            nn.init.uniform_(self.bias, -(fan_in**-0.5), fan_in**-0.5)

    @property
    def pattern(self):
        """The BlockPattern; made when it is first asked for, and again after the indices changed or moved."""
        crow, col = self._buffers["crow_indices"], self._buffers["col_indices"]
        seen, versions = self._seen, (version(crow), version(col))
        if seen is None or seen[0] is not crow or seen[1] is not col or seen[2] != versions:
            pattern = lookup(crow, col, self.out_features, self.in_features, self.block)
            seen = self._seen = (crow, col, versions, pattern)
        return seen[3]

    def __getstate__(self):
        return {**self.__dict__, "_seen": None}  # copies find their own pattern

    @property
    def nnz_blocks(self):
        return self.col_indices.shape[0]

    @property
    def density(self):
        blocks = -(-self.out_features // self.block) * -(-self.in_features // self.block)
        return self.nnz_blocks / blocks if blocks else 0.0

    @property
    def weight(self):
        """The dense weight, computed from the values (and differentiable by them)."""
        return _dense(self.values, self.crow_indices, self.col_indices, self.out_features, self.in_features)

    def forward(self, x):
        if not torch.compiler.is_compiling():  # past nn.Module's slow attributes
            values, bias = self._parameters.get("values"), self._parameters.get("bias")
            if values is not None and _direct(x, values, bias) and not x.is_meta:
                return run_sparse_linear(self.pattern, x, values, bias, "none")
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise InvalidArgumentError(f"x has the shape {list(x.shape)}, accepted: [..., {self.in_features}]")
        return _ops.sparse_linear(x, self.values, self.bias, self.crow_indices, self.col_indices, self.out_features, "none")

    @classmethod
    def from_linear(cls, linear, block=64, density=1.0, *, pattern=None):
        """From a dense nn.Linear: the `density` of its blocks with the largest Frobenius norms stay (all of them and
        nothing changes at 1.0), or those of `pattern`. Values are copied."""
        return cls.from_dense(linear.weight, linear.bias, block, density, pattern=pattern)

    @classmethod
    def from_dense(cls, weight, bias=None, block=64, density=1.0, *, pattern=None):
        """As `from_linear`, from a weight [out, in] and a bias [out]."""
        weight = weight.detach()
        if pattern is None:
            pattern = magnitude_mask(weight, block, density)
        module = cls(weight.shape[1], weight.shape[0], block, pattern=pattern, bias=bias is not None, device=weight.device,
                     dtype=weight.dtype)
        with torch.no_grad():
            module.values.copy_(_blocks(weight, block)[module._block_rows(), module.col_indices.long()])
            if bias is not None:
                module.bias.copy_(bias)
        return module

    @classmethod
    def from_sparse(cls, weight, bias=None):
        """From a block-sparse weight [out, in]: a torch.sparse_bsr tensor, a SciPy bsr_array, or (values, BlockPattern).
        Values are copied."""
        if is_torch_bsr(weight):
            weight = weight.detach()
        values, pattern = sparse_operand("weight", weight)
        if not isinstance(values, torch.Tensor):
            values = torch.as_tensor(values)
        module = cls(pattern.shape[1], pattern.shape[0], pattern.block_size, pattern=pattern, bias=bias is not None,
                     device=values.device, dtype=values.dtype)
        with torch.no_grad():
            module.values.copy_(values)
            if bias is not None:
                module.bias.copy_(torch.as_tensor(bias))
        return module

    def to_linear(self):
        """A dense nn.Linear that computes the same."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device=self.values.device,
                           dtype=self.values.dtype)
        with torch.no_grad():
            linear.weight.copy_(self.weight)
            if self.bias is not None:
                linear.bias.copy_(self.bias)
        return linear

    def to_sparse_bsr(self):
        """The weight as a torch.sparse_bsr tensor, which shares the values. Sizes must be multiples of the block."""
        self._require_whole_blocks("torch.sparse_bsr")
        return torch.sparse_bsr_tensor(self.crow_indices, self.col_indices, self.values.detach(),
                                       (self.out_features, self.in_features), check_invariants=False)

    def to_scipy(self):
        """The weight as a SciPy bsr_array on the host. Sizes must be multiples of the block."""
        import scipy.sparse
        self._require_whole_blocks("SciPy")
        values = self.values.detach().cpu()
        if values.dtype in (torch.bfloat16, torch.float16):  # SciPy has no 16-bit matrices
            values = values.float()
        return scipy.sparse.bsr_array((values.numpy().copy(), self.col_indices.cpu().numpy().copy(),
                                       self.crow_indices.cpu().numpy().copy()), shape=(self.out_features, self.in_features))

    def _require_whole_blocks(self, whose):
        if self.out_features % self.block or self.in_features % self.block:
            raise InvalidArgumentError(f"the weight is {self.out_features} x {self.in_features}; a {whose} matrix needs "
                                       f"multiples of the block, {self.block}")

    def _block_rows(self):
        rows = torch.arange(len(self.crow_indices) - 1, device=self.crow_indices.device)
        return rows.repeat_interleave(self.crow_indices.diff().long(), output_size=self.nnz_blocks)

    def _load_from_state_dict(self, state_dict, prefix, *arguments):
        """A pattern of another number of blocks may come in: room is made for it."""
        for name in ("values", "col_indices"):
            new, old = state_dict.get(prefix + name), getattr(self, name)
            if new is not None and new.shape != old.shape and new.shape[1:] == old.shape[1:]:
                old.data = torch.empty(new.shape, dtype=old.dtype, device=old.device)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def extra_repr(self):
        return (f"in_features={self.in_features}, out_features={self.out_features}, block={self.block}, "
                f"density={self.density:.3g}, bias={self.bias is not None}")


def magnitude_mask(weight, block, density):
    """Which blocks of a dense matrix to keep: the `density` of them with the largest Frobenius norms; boolean [block rows,
    block columns]. At least one block stays unless density is 0."""
    _check_density(density)
    if block not in BLOCK_SIZES:
        raise InvalidArgumentError(f"block is {block}, accepted: 16, 32, 64 or 128")
    norms = _blocks(weight.detach(), block).float().square().sum((2, 3))
    kept = _kept(norms.numel(), density)
    mask = torch.zeros(norms.numel(), dtype=torch.bool, device=norms.device)
    mask[norms.flatten().topk(kept, sorted=False).indices] = True
    return mask.view(norms.shape)


def prune_(module, block=64, density=0.25, *, skip=()):
    """Replaces every nn.Linear inside `module` by the BlockSparseLinear with its largest blocks (see `from_linear`).

    `skip`: names (as in named_modules) to leave alone. A layer that is used in several places is replaced by one. Layers of
    subclasses of nn.Linear stay, with a warning: their owners may read the dense weight, as nn.MultiheadAttention does.
    Returns `module`, or the new layer where `module` is an nn.Linear itself. An optimizer made before still holds the old
    parameters: make it afterwards.
    """
    if type(module) is nn.Linear:
        return BlockSparseLinear.from_linear(module, block, density)
    unknown = set(skip) - {name for name, _ in module.named_modules()}
    if unknown:
        raise InvalidArgumentError(f"skip names {', '.join(sorted(unknown))}, which the module does not have")
    replaced, left = {}, []
    for name, parent in list(module.named_modules()):
        for child_name, child in list(parent._modules.items()):  # named_children leaves out second uses
            full_name = f"{name}.{child_name}" if name else child_name
            if not isinstance(child, nn.Linear) or full_name in skip:
                continue
            if type(child) is not nn.Linear:
                left.append(f"{full_name} ({type(child).__name__})")
                continue
            if child not in replaced:
                replaced[child] = BlockSparseLinear.from_linear(child, block, density)
            setattr(parent, child_name, replaced[child])
    if left:
        warnings.warn(f"prune_ leaves subclasses of nn.Linear dense: {', '.join(left)}", stacklevel=2)
    return module


def _check_density(density):
    if not 0 <= density <= 1:
        raise InvalidArgumentError(f"density is {density}, accepted: 0 to 1")


def _kept(count, density):
    return min(count, max(1 if density > 0 else 0, round(count * density)))


def _random_mask(rows, cols, block, density):
    """The same number of blocks, within one, in every block row; every block column gets some where there are enough."""
    _check_density(density)
    shape = (-(-rows // block), -(-cols // block))
    mask = torch.zeros(shape, dtype=torch.bool)
    if 0 in shape:
        return mask
    kept = _kept(shape[0] * shape[1], density)
    per_row = torch.full((shape[0],), kept // shape[0])
    per_row[torch.randperm(shape[0])[:kept % shape[0]]] += 1
    order, used = torch.randperm(shape[1]), 0
    for row, count in enumerate(per_row.tolist()):
        for _ in range(count):  # walk through the columns in a random order; a new order when they are used up
            if used == shape[1]:
                order, used = torch.randperm(shape[1]), 0
                present = mask[row, order]
                order = torch.cat([order[~present], order[present]])
            mask[row, order[used]] = True
            used += 1
    return mask


def _blocks(matrix, block):
    """[block rows, block columns, block, block] of a dense matrix, padded with 0."""
    rows, cols = matrix.shape
    padded = nn.functional.pad(matrix, (0, -cols % block, 0, -rows % block))
    return padded.view(padded.shape[0] // block, block, padded.shape[1] // block, block).transpose(1, 2)


def _dense(values, crow, col, rows, cols):
    block = values.shape[-1]
    shape = (-(-rows // block), -(-cols // block))
    row = torch.arange(shape[0], device=crow.device).repeat_interleave(crow.diff().long(), output_size=col.shape[0])
    blocks = values.new_zeros((*shape, block, block)).index_put((row, col.long()), values)
    return blocks.transpose(1, 2).reshape(shape[0] * block, shape[1] * block)[:rows, :cols]
