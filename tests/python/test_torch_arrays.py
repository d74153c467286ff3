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
