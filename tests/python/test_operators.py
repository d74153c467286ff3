"""The block-sparse operators of PyTorch on the CPU: gradients by finite differences, opcheck, compile, export, autocast."""

import copy
import io

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import triage_kernels as tk  # noqa: E402
from triage_kernels import _torch_patterns  # noqa: E402

kRows, kCols, kBlock = 40, 56, 16  # ragged in both directions


@pytest.fixture
def pattern():
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1]], dtype=torch.bool)
    return tk.BlockPattern.from_mask(mask, kBlock, (kRows, kCols))


def random(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype).requires_grad_()


def values_of(pattern, dtype=torch.float64):
    """Values with zeros in the padding, where gradients are 0 as well."""
    return pattern.gather(torch.randn(pattern.shape, dtype=dtype)).requires_grad_()


def dense(pattern, values):
    from triage_kernels.nn import _dense
    return _dense(values, pattern.crow_indices, pattern.col_indices, *pattern.shape)


def activate(name, z):
    return z if name == "none" else getattr(torch.nn.functional, name)(z)


def sampled(pattern, matrix):
    mask = torch.as_tensor(pattern.mask())
    padded = torch.nn.functional.pad(matrix, (0, -kCols % kBlock, 0, -kRows % kBlock))
    return padded.view(3, kBlock, 4, kBlock).transpose(1, 2)[mask]


# Each public function with every option, beside what it means in dense PyTorch.
FUNCTIONS = {
    **{f"linear-{name}": (lambda p, v, x, b, name=name: tk.sparse_linear(x, (v, p), b, activation=name),
                          lambda p, v, x, b, name=name: activate(name, x @ dense(p, v).T + b),
                          [(2, 3, kCols), (kRows,)]) for name in ("none", "relu", "gelu", "silu")},
    "linear-without-bias": (lambda p, v, x: tk.sparse_linear(x, (v, p)), lambda p, v, x: x @ dense(p, v).T, [(3, kCols)]),
    "spmm": (lambda p, v, b: tk.spmm((v, p), b), lambda p, v, b: dense(p, v) @ b, [(kCols, 5)]),
    "spmm-alpha": (lambda p, v, b: tk.spmm((v, p), b, alpha=0.5), lambda p, v, b: 0.5 * (dense(p, v) @ b), [(kCols, 5)]),
    "spmm-c": (lambda p, v, b, c: tk.spmm((v, p), b, c=c, alpha=-1.5, beta=0.75),
               lambda p, v, b, c: -1.5 * (dense(p, v) @ b) + 0.75 * c, [(kCols, 5), (kRows, 5)]),
    "sddmm": (lambda p, v, x, y: tk.sddmm(x, y, p), lambda p, v, x, y: sampled(p, x @ y.T), [(kRows, 6), (kCols, 6)]),
    "sddmm-xt_y": (lambda p, v, x, y: tk.sddmm(x, y, p, layout="xt_y", alpha=2.0),
                   lambda p, v, x, y: 2.0 * sampled(p, x.T @ y), [(6, kRows), (6, kCols)]),
    "sddmm-values": (lambda p, v, x, y: tk.sddmm(x, y, p, values=v, alpha=0.5, beta=-1.25),
                     lambda p, v, x, y: 0.5 * sampled(p, x @ y.T) - 1.25 * sampled(p, dense(p, v)),
                     [(kRows, 6), (kCols, 6)]),
}


@pytest.fixture(params=FUNCTIONS)
def function(request, pattern):
    ours, meaning, shapes = FUNCTIONS[request.param]
    inputs = (values_of(pattern), *(random(*shape) for shape in shapes))
    return (lambda *a: ours(pattern, *a)), (lambda *a: meaning(pattern, *a)), inputs


def test_result_and_gradients(function):
    """Every option reaches the result and each gradient: both equal those of the dense meaning."""
    ours, meaning, inputs = function
    right = meaning(*inputs)
    torch.testing.assert_close(ours(*inputs), right, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(ours(*inputs), right, rtol=1e-12, atol=1e-12)  # past the dispatcher
    direction = torch.randn_like(right)
    for gradient, expected in zip(torch.autograd.grad(ours(*inputs), inputs, direction, allow_unused=True),
                                  torch.autograd.grad(right, inputs, direction, allow_unused=True)):
        assert (gradient is None) == (expected is None)
        if gradient is not None:
            torch.testing.assert_close(gradient, expected, rtol=1e-11, atol=1e-11)


def test_gradcheck(function):
    ours, _, inputs = function
    assert torch.autograd.gradcheck(ours, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(ours, inputs, fast_mode=True, atol=1e-4)


def test_compile(function):
    ours, _, inputs = function
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    right = ours(*inputs)
    direction = torch.randn_like(right)
    torch.testing.assert_close(compiled(*inputs), right)
    for gradient, expected in zip(torch.autograd.grad(compiled(*inputs), inputs, direction, allow_unused=True),
                                  torch.autograd.grad(right, inputs, direction, allow_unused=True)):
        if expected is not None:
            torch.testing.assert_close(gradient, expected)


OPERATORS = {
    "sparse_linear": lambda p, v: (random(2, 3, kCols), v, random(kRows), p.crow_indices, p.col_indices, kRows, "gelu"),
    "sparse_linear_backward_input": lambda p, v: (random(4, kRows), v, p.crow_indices, p.col_indices, kCols),
    "spmm": lambda p, v: (v, p.crow_indices, p.col_indices, kRows, random(kCols, 5), random(kRows, 5), 0.5, 2.0),
    "spmm_backward_b": lambda p, v: (v, p.crow_indices, p.col_indices, random(kRows, 5), kCols, 1.5),
    "sddmm": lambda p, v: (random(kRows, 6), random(kCols, 6), p.crow_indices, p.col_indices, kBlock, "x_yt", v, 1.0, 0.5),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_opcheck(pattern, name):
    arguments = OPERATORS[name](pattern, values_of(pattern))
    torch.library.opcheck(getattr(torch.ops.triage, name).default, arguments)


@pytest.mark.parametrize("strides", ["expanded", "transposed", "sliced"])
def test_any_strides(pattern, strides):
    """Gradients arrive with any strides: of sum() with 0, of a transposition with the inner one not 1."""
    values, x = values_of(pattern), random(3, kCols)
    change = {"expanded": lambda y: y.sum(), "transposed": lambda y: (y.t().contiguous().t() * y.detach()).sum(),
              "sliced": lambda y: y[:, ::2].square().sum()}[strides]
    for gradient, right in zip(torch.autograd.grad(change(tk.sparse_linear(x, (values, pattern))), (x, values)),
                               torch.autograd.grad(change(x @ dense(pattern, values).T), (x, values))):
        torch.testing.assert_close(gradient, right)


def test_autocast(pattern):
    values, x, bias = (tensor.detach().float().requires_grad_() for tensor in (values_of(pattern), random(4, kCols),
                                                                               random(kRows)))
    with torch.autocast("cpu", torch.bfloat16):
        y = tk.sparse_linear(x, (values, pattern), bias)
        z = tk.spmm((values, pattern), x.t())
        w = tk.sddmm(y, x.t().contiguous().t(), pattern, layout="xt_y")
        with torch.no_grad():
            assert tk.sparse_linear(x, (values, pattern), bias).dtype == torch.bfloat16
    assert y.dtype == z.dtype == w.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), x @ dense(pattern, values).T + bias, rtol=0.05, atol=0.2)
    y.sum().backward()
    assert x.grad.dtype == values.grad.dtype == bias.grad.dtype == torch.float32
    assert tk.sparse_linear(x, (values, pattern), bias).dtype == torch.float32


def test_dynamic_shapes(pattern):
    values, traces = values_of(pattern), []

    def backend(graph, inputs):
        traces.append(graph)
        return graph
    compiled = torch.compile(lambda x: tk.sparse_linear(x, (values, pattern)), fullgraph=True, dynamic=True, backend=backend)
    for rows in (3, 5, 9):
        x = random(rows, kCols)
        torch.testing.assert_close(compiled(x), tk.sparse_linear(x, (values, pattern)))
    assert len(traces) == 1


def test_export(pattern):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = tk.BlockSparseLinear(kCols, kRows, kBlock, pattern=pattern)

        def forward(self, x):
            return torch.relu(self.layer(x))

    model, x = Model(), torch.randn(4, kCols)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("rows", min=2)},))
    memory = io.BytesIO()
    torch.export.save(program, memory)
    memory.seek(0)
    loaded = torch.export.load(memory).module()
    del program
    for rows in (4, 11):
        x = torch.randn(rows, kCols)
        torch.testing.assert_close(loaded(x), model(x))


def test_a_pattern_is_built_once(pattern, monkeypatch):
    """However often, whether compiled or not, forward and backward."""
    built = []
    original = tk.BlockPattern._from_bsr.__func__

    def counted(cls, *arguments, **options):
        built.append(arguments)
        return original(cls, *arguments, **options)
    monkeypatch.setattr(tk.BlockPattern, "_from_bsr", classmethod(counted))
    values, x = values_of(pattern), random(3, kCols)
    compiled = torch.compile(lambda x, v: tk.sparse_linear(x, (v, pattern)), fullgraph=True, backend="aot_eager")
    for function in (compiled, lambda x, v: tk.sparse_linear(x, (v, pattern))):
        for _ in range(3):
            function(x, values).sum().backward()
    assert len(built) == 0
    layer = tk.BlockSparseLinear(kCols, kRows, kBlock, pattern=pattern)
    for function in (layer, torch.compile(layer, fullgraph=True, backend="aot_eager"), copy.copy(layer)):
        for _ in range(3):
            function(x.detach().float()).sum().backward()
    assert len(built) == 1


def test_a_pattern_that_changes():
    """Written-to indices and freed memory that is used again never give an old pattern."""
    crow, col = torch.tensor([0, 1], dtype=torch.int32), torch.tensor([0], dtype=torch.int32)
    values, x = torch.eye(16)[None], torch.arange(32.0)[None]

    def result():
        return torch.ops.triage.sparse_linear(x, values, None, crow, col, 16, "none")
    assert torch.equal(result(), x[:, :16])
    col.fill_(1)
    assert torch.equal(result(), x[:, 16:])
    for place in (0, 1) * 50:  # the allocator hands out the same memory again and again
        col = torch.tensor([place], dtype=torch.int32)
        assert torch.equal(result(), x[:, 16 * place:16 * place + 16])
    assert len(_torch_patterns._patterns) < 50, "patterns of freed indices are dropped"


def test_swapped_patterns_under_compile():
    """One compiled function, two patterns of the same shape and number of blocks."""
    patterns = [tk.BlockPattern.from_mask(torch.tensor([[a, not a]]), 16) for a in (True, False)]
    values, x = torch.eye(16)[None], torch.arange(32.0)[None]
    compiled = torch.compile(lambda p: tk.sparse_linear(x, (values, p)), fullgraph=True, backend="aot_eager")
    for place in (0, 1, 0):
        assert torch.equal(compiled(patterns[place]), x[:, 16 * place:16 * place + 16])


def test_sparse_bsr():
    matrix = torch.randn(32, 48) * torch.kron(torch.tensor([[1, 0, 1], [0, 1, 0]]), torch.ones(16, 16))
    sparse, b = matrix.to_sparse_bsr((16, 16)), torch.randn(48, 3)
    torch.testing.assert_close(tk.spmm(sparse, b), matrix @ b)
    torch.testing.assert_close(tk.sparse_linear(b.t(), sparse), b.t() @ matrix.t())
    with pytest.raises(ValueError, match="requires a gradient"):
        tk.spmm(sparse.detach().requires_grad_(), b)


@pytest.mark.parametrize("call, error, words", [
    (lambda p, v: tk.sparse_linear(torch.ones(2, kCols + 1).double(), (v, p)), ValueError, "columns of the block-sparse"),
    (lambda p, v: tk.sparse_linear(torch.ones(2, kCols), (v, p)), ValueError, "float32"),
    (lambda p, v: tk.sparse_linear(torch.ones(2, kCols).double(), (v[:-1], p)), ValueError, "accepted"),
    (lambda p, v: tk.sparse_linear(torch.ones(2, kCols).double(), (v, p), activation="tanh"), ValueError, "'silu'"),
    (lambda p, v: tk.spmm((v, p), torch.ones(kCols, 2).double(), beta=1.0), ValueError, "there is no c"),
    (lambda p, v: tk.spmm((v, p), torch.ones(kCols, 2).double(), c=torch.ones(2, 2).double(), beta=1.0), ValueError, "c has"),
    (lambda p, v: tk.spmm(v, torch.ones(kCols, 2).double()), ValueError, "BlockPattern"),
    (lambda p, v: tk.sddmm(torch.ones(3).double(), torch.ones(3, 2).double(), p), ValueError, "dimensions"),
    (lambda p, v: tk.sddmm(torch.ones(3, 2), torch.ones(3, 2), v), ValueError, "BlockPattern"),
    (lambda p, v: torch.ops.triage.sparse_linear(torch.ones(2, 16), torch.ones(1, 16, 16), None, torch.tensor([0, 2]),
                                                 torch.tensor([0]), 16, "none"), ValueError, "crow_indices"),
], ids=str)
@pytest.mark.parametrize("gradients", [True, False])
def test_bad_arguments(pattern, call, error, words, gradients):
    with torch.set_grad_enabled(gradients), pytest.raises(error, match=words) as caught:
        call(pattern, values_of(pattern))
    assert isinstance(caught.value, tk.Error)
