"""How PyTorch tensors become DLTensors: by PyTorch's own function where it has one, else field by field."""

import ctypes

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import triage_kernels as tk  # noqa: E402
from triage_kernels import _frame, _torch_arrays  # noqa: E402


def fields(address):
    words = (ctypes.c_uint64 * 6).from_address(address)
    dimensions = words[2] & 0xffffffff
    return (words[0], words[1], dimensions, words[2] >> 32, words[5],
            *((ctypes.c_int64 * dimensions).from_address(pointer)[:] for pointer in words[3:5]))


TENSORS = {
    "contiguous": torch.zeros(3, 4),
    "strided": torch.zeros(3, 4, 5, 6, dtype=torch.float16)[:, 1:, :, ::2],
    "expanded": torch.zeros(1, 4, dtype=torch.bfloat16).expand(3, 4),
    "empty": torch.zeros(0, 5, dtype=torch.float64),
    "vector": torch.zeros(7, dtype=torch.int32),
    "bytes": torch.zeros(2, 2, 2, dtype=torch.uint8),
    "bool": torch.zeros(2, 2, dtype=torch.bool),
    "parameter": torch.nn.Parameter(torch.zeros(2, 3)),
}


@pytest.mark.skipif(_torch_arrays._fill is None, reason="PyTorch before 2.10 has no C exchange API")
@pytest.mark.parametrize("name", TENSORS)
def test_both_ways_write_the_same(name):
    frame = _frame.Frame()
    tensor = TENSORS[name]
    assert (fields(_torch_arrays._write_exchanged(frame, 0, tensor)) ==
            fields(_torch_arrays._write_fields(frame, 1, tensor)))


@pytest.mark.skipif(_torch_arrays._fill is None, reason="PyTorch before 2.10 has no C exchange API")
def test_what_is_no_tensor_is_an_error():
    with pytest.raises(Exception):
        _torch_arrays._write_exchanged(_frame.Frame(), 0, np.zeros(3))


@pytest.fixture(params=["builtin", "ctypes"])
def way(request, monkeypatch):
    """Both ways from a tensor to the library, whatever PyTorch this is."""
    if request.param == "ctypes":
        monkeypatch.setattr(_torch_arrays, "builtin", lambda name: None)
    elif _torch_arrays._exchange_api is None:
        pytest.skip("PyTorch before 2.10 has no C exchange API")
    return request.param


def test_calls_are_the_same_both_ways(way):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 64, generator=generator)
    pattern = tk.BlockPattern.from_mask(torch.tensor([[1, 0], [1, 1]], dtype=torch.bool), 32)
    values = torch.randn(3, 32, 32, generator=generator)
    bias = torch.randn(64, generator=generator)
    zero = torch.zeros(32, 32)
    weight = torch.cat([torch.cat([values[0], zero], 1), torch.cat([values[1], values[2]], 1)])
    expected = torch.relu(x @ weight.T + bias)
    torch.testing.assert_close(tk.sparse_linear(x, (values, pattern), bias, activation="relu"), expected)
    # Strided rows, and all of a batch's rows that do not lie one after another.
    torch.testing.assert_close(
        tk.sparse_linear(torch.cat([x, x], -1)[..., :64], (values, pattern), bias, activation="relu"), expected)
    torch.testing.assert_close(
        tk.sparse_linear(torch.cat([x[0], x[0]], -1)[:, :64], (values, pattern), bias, activation="relu"), expected[0])
    q = torch.randn(1, 5, 2, 16, generator=generator)
    o, lse = tk.attention(q, q, q, causal=True, return_lse=True)
    torch.testing.assert_close(tk.attention(q, q, q, causal=True), o)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, q) / 4
    scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf"))
    torch.testing.assert_close(o, torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), q))
    torch.testing.assert_close(lse, scores.logsumexp(-1))


@pytest.mark.parametrize("change, says", [
    (dict(x=torch.zeros(4, 32)), r"x has the shape \[4, 32\], accepted"),
    (dict(x=torch.zeros(4, 64, dtype=torch.int32)), "x"),
    (dict(x=torch.zeros(4, 64, dtype=torch.float16)), "float16"),
    (dict(bias=torch.zeros(3)), "bias"),
    (dict(activation="tanh"), "activation"),
])
def test_errors_name_the_argument_both_ways(way, change, says):
    pattern = tk.BlockPattern.from_mask(torch.ones(2, 2, dtype=torch.bool), 32)
    arguments = dict(x=torch.zeros(4, 64), bias=torch.zeros(64), activation="none") | change
    with pytest.raises(tk.InvalidArgumentError, match=says):
        tk.sparse_linear(arguments["x"], (torch.zeros(4, 32, 32), pattern), arguments["bias"],
                         activation=arguments["activation"])


def test_errors_of_attention_name_the_argument_both_ways(way):
    q = torch.zeros(1, 4, 2, 16)
    with pytest.raises(tk.InvalidArgumentError, match="softcap"):
        tk.attention(q, q, q, softcap=-1.0)
    with pytest.raises(tk.InvalidArgumentError, match="v"):
        tk.attention(q, q, torch.zeros(1, 5, 2, 16))
    with pytest.raises(tk.InvalidArgumentError, match="num_splits"):
        tk.attention(q, q, q, num_splits=-5)
    for name, value in (("max_seqlen_q", "four"), ("max_seqlen_k", 2**70), ("num_splits", 1.5), ("softcap", "x"),
                        ("softmax_scale", "x")):
        for array in (q, q.numpy()):
            with pytest.raises(tk.InvalidArgumentError, match=f"{name} is .*, accepted: "):
                tk.attention(array, array, array, causal=True, **{name: value})
    with pytest.raises(tk.InvalidArgumentError, match="window_right is 'x'"):
        tk.attention(q, q, q, window=(3, "x"))


def test_meta_tensors_have_shapes_alone(way):
    q = torch.zeros(1, 4, 2, 16, device="meta")
    o, lse = tk.attention(q, q, q, return_lse=True)
    assert o.is_meta and o.shape == q.shape and lse.is_meta and lse.shape == (1, 2, 4)
    pattern = tk.BlockPattern.from_mask(torch.ones(2, 2, dtype=torch.bool), 32)
    y = tk.sparse_linear(torch.zeros(3, 64, device="meta"), (torch.zeros(4, 32, 32, device="meta"), pattern))
    assert y.is_meta and y.shape == (3, 64)


def test_lazily_negated_tensors_are_what_they_show():
    x = torch.randn(8, 64, dtype=torch.float32)
    pattern = tk.BlockPattern.from_mask(torch.ones(2, 2, dtype=torch.bool), 32)
    values = torch.randn(4, 32, 32)
    right = -tk.sparse_linear(x, (values, pattern))
    torch.testing.assert_close(tk.sparse_linear(torch._neg_view(x), (values, pattern)), right)
    q = torch.randn(1, 8, 2, 16)
    torch.testing.assert_close(tk.attention(q, q, torch._neg_view(q)), -tk.attention(q, q, q))


@pytest.mark.parametrize("change, says", [
    (lambda x: x.to_sparse(), "sparse_coo tensor, accepted: dense"),
    (lambda x: x.to_mkldnn(), "_mkldnn tensor, accepted: dense"),
    (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "qint8, accepted: float16"),
    (lambda x: x.to(torch.int32), "int32, accepted: float16"),
    (lambda x: x.to(torch.complex64), "complex64, accepted: float16"),
])
def test_tensors_of_another_kind_are_named(change, says):
    x, values = torch.randn(8, 64), torch.randn(4, 32, 32)
    pattern = tk.BlockPattern.from_mask(torch.ones(2, 2, dtype=torch.bool), 32)
    with pytest.raises(tk.InvalidArgumentError, match=f"^x is (a torch.)?{says}"):
        tk.sparse_linear(change(x), (values, pattern))
    q = torch.randn(1, 8, 2, 16)
    with pytest.raises(tk.InvalidArgumentError, match=f"^k is (a torch.)?{says}|^k is .*, but q is"):
        tk.attention(q, change(q), q)
