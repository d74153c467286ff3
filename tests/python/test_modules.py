"""BlockSparseLinear and prune_ on the CPU."""

import copy
import io
import pickle

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch import nn  # noqa: E402

import triage_kernels as tk  # noqa: E402


@pytest.fixture
def layer():
    return tk.BlockSparseLinear(60, 40, 16, density=0.5)


def saved(value):
    memory = io.BytesIO()
    torch.save(value, memory)
    memory.seek(0)
    return memory


@pytest.mark.parametrize("density", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_density(density):
    layer = tk.BlockSparseLinear(256, 128, 16, density=density)
    assert layer.nnz_blocks == (max(1, round(128 * density)) if density else 0)
    mask = layer.pattern.mask()
    rows, columns = mask.sum(1), mask.sum(0)
    assert rows.max() - rows.min() <= 1, "rows are balanced"
    assert columns.max() - columns.min() <= 2, "and so are columns, nearly"
    x = torch.randn(3, 256)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_initial_outputs_have_the_scale_of_a_dense_layer():
    x = torch.randn(64, 1024)
    sparse = tk.BlockSparseLinear(1024, 512, 32, density=0.25, bias=False)(x).std()
    assert sparse.item() == pytest.approx(nn.Linear(1024, 512, bias=False)(x).std().item(), rel=0.1)


@pytest.mark.parametrize("bias", [True, False])
def test_from_linear(bias):
    linear = nn.Linear(60, 40, bias=bias)
    x = torch.randn(2, 5, 60)
    whole = tk.BlockSparseLinear.from_linear(linear, 16, 1.0)
    torch.testing.assert_close(whole(x), linear(x))
    assert torch.equal(whole.weight, linear.weight) and (whole.bias is None) != bias
    half = tk.BlockSparseLinear.from_linear(linear, 16, 0.5)
    assert half.nnz_blocks == 6
    kept = half.weight != 0
    assert torch.equal(half.weight[kept], linear.weight[kept])
    norms = nn.functional.pad(linear.weight, (0, 4, 0, 8)).view(3, 16, 4, 16).square().sum((1, 3))
    mask = torch.as_tensor(half.pattern.mask())
    assert norms[mask].min() >= norms[~mask].max(), "the largest blocks stay"
    torch.testing.assert_close(half.to_linear()(x), half(x))
    half.values.data.zero_()
    assert linear.weight.abs().sum() > 0, "values are copied"


def test_other_matrices():
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    layer = tk.BlockSparseLinear(64, 48, 16, density=0.5)
    x = torch.randn(3, 64)
    for same in (tk.BlockSparseLinear.from_sparse(layer.to_sparse_bsr(), layer.bias),
                 tk.BlockSparseLinear.from_sparse(layer.to_scipy(), layer.bias),
                 tk.BlockSparseLinear.from_sparse((layer.values, layer.pattern), layer.bias),
                 tk.BlockSparseLinear.from_sparse(sparse.bsr_matrix(layer.to_scipy()), layer.bias)):
        assert torch.equal(same(x), layer(x))
    assert torch.equal(layer.to_sparse_bsr().to_dense(), layer.weight)
    assert (layer.to_scipy().toarray() == layer.weight.detach().numpy()).all()
    with pytest.raises(ValueError, match="multiples of the block"):
        tk.BlockSparseLinear(60, 40, 16, density=0.5).to_sparse_bsr()


def test_state_dict(layer):
    x = torch.randn(4, 60)
    layer(x)
    other = tk.BlockSparseLinear(60, 40, 16, density=0.5)
    other(x)
    assert (other.pattern.mask() != layer.pattern.mask()).any(), "another pattern, or this test shows nothing"
    other.load_state_dict(torch.load(saved(layer.state_dict()), weights_only=True))
    assert torch.equal(other(x), layer(x))
    assert set(layer.state_dict()) == {"values", "crow_indices", "col_indices", "bias"}
    wider = tk.BlockSparseLinear(60, 40, 16, density=0.9)
    wider.load_state_dict(layer.state_dict())
    assert wider.nnz_blocks == layer.nnz_blocks and torch.equal(wider(x), layer(x))
    with pytest.raises(RuntimeError, match="size mismatch"):
        tk.BlockSparseLinear(60, 40, 32, density=0.5).load_state_dict(layer.state_dict())


def test_copies(layer):
    x = torch.randn(4, 60)
    for same in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(saved(layer), weights_only=False)):
        assert torch.equal(same(x), layer(x))
        same.values.data.zero_()
        assert not torch.equal(same(x), layer(x)), "a copy has values of its own"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(layer, dtype):
    x = torch.randn(4, 60)
    right = layer(x)
    moved = copy.deepcopy(layer).to(dtype)
    assert moved.crow_indices.dtype == torch.int32
    torch.testing.assert_close(moved(x.to(dtype)).float(), right, rtol=0.02, atol=0.02)
    assert copy.deepcopy(layer).half()(x.half()).dtype == torch.float16


def test_meta_device(layer):
    shapes = copy.deepcopy(layer).to("meta")
    assert shapes(torch.empty(7, 60, device="meta")).shape == (7, 40)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("compiled", [False, True])
def test_training(optimizer, compiled):
    """Learns what a layer of the same pattern computes; its pattern stays."""
    layer = tk.BlockSparseLinear(32, 48, 16, density=0.5)
    teacher, mask = copy.deepcopy(layer), torch.as_tensor(layer.pattern.mask())
    layer.reset_parameters()
    optimizer = optimizer(layer.parameters(), lr=3.0 if optimizer is torch.optim.SGD else 0.02)
    model = torch.compile(layer, fullgraph=True, backend="aot_eager") if compiled else layer
    x = torch.randn(128, 32)
    target = teacher(x).detach()
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (model(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
    assert torch.equal(torch.as_tensor(layer.pattern.mask()), mask)


def test_prune():
    shared = nn.Linear(32, 32)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.ModuleDict({"a": shared, "b": shared}), nn.Linear(64, 10))
    assert tk.prune_(model, 16, 0.5, skip=["3"]) is model
    assert isinstance(model[0], tk.BlockSparseLinear) and model[0].density == 0.5
    assert model[2]["a"] is model[2]["b"] and isinstance(model[2]["a"], tk.BlockSparseLinear)
    assert type(model[3]) is nn.Linear
    assert isinstance(tk.prune_(nn.Linear(32, 32), 16, 0.5), tk.BlockSparseLinear)
    with pytest.raises(ValueError, match="nowhere"):
        tk.prune_(model, 16, 0.5, skip=["nowhere"])
    with pytest.warns(UserWarning, match="self_attn.out_proj"):
        encoder = tk.prune_(nn.TransformerEncoderLayer(32, 2, 64, batch_first=True), 16, 1.0)
    x = torch.randn(2, 5, 32)
    for mode in (True, False):  # without gradients nn.TransformerEncoderLayer reads `weight`
        encoder.train(mode)
        encoder.dropout.p = encoder.dropout1.p = encoder.dropout2.p = encoder.self_attn.dropout = 0.0
        with torch.no_grad():
            assert encoder(x).isfinite().all()


def test_densities_of_zero_and_one_in_prune():
    model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
    x = torch.randn(3, 32)
    right = model(x)
    torch.testing.assert_close(tk.prune_(copy.deepcopy(model), 16, 1.0)(x), right)
    empty = tk.prune_(copy.deepcopy(model), 16, 0.0)
    torch.testing.assert_close(empty(x), model[2].bias.expand(3, 32))
    empty(x).sum().backward()
    assert empty[0].values.grad.shape == (0, 16, 16)


@pytest.mark.parametrize("call, words", [
    (lambda: tk.BlockSparseLinear(32, 32, 16), "density or pattern"),
    (lambda: tk.BlockSparseLinear(32, 32, 17, density=0.5), "block is 17"),
    (lambda: tk.BlockSparseLinear(32, 32, 16, density=1.5), "density is 1.5"),
    (lambda: tk.BlockSparseLinear(32, 32, 16, pattern=torch.ones(3, 3, dtype=torch.bool)), "mask"),
    (lambda: tk.BlockSparseLinear(32, 32, 16, pattern=tk.BlockPattern.from_mask(torch.ones(3, 3).bool(), 16)), "32 x 32"),
    (lambda: tk.BlockSparseLinear(32, 32, 16, density=0.5)(torch.ones(2, 31)), r"\[\.\.\., 32\]"),
    (lambda: tk.BlockSparseLinear.from_linear(nn.Linear(32, 32), 8), "block is 8"),
])
def test_bad_arguments(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert isinstance(caught.value, tk.Error)
