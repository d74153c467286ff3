"""NumPy and SciPy: results against dense products in float64, and errors. Needs no PyTorch."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import triage_kernels as tk

kTolerance = {"float16": 2e-3, "float32": 2e-6, "float64": 1e-14}
ACTIVATIONS = {
    "none": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "gelu": lambda z: z * 0.5 * (1 + np.vectorize(__import__("math").erf)(z / np.sqrt(2))),
    "silu": lambda z: z / (1 + np.exp(-z)),
}


def random_sparse(rng, rows, cols, block, density, dtype):
    """(values, pattern, the dense matrix)"""
    mask = rng.random((-(-rows // block), -(-cols // block))) < density
    mask[0, :] = False  # an empty block row
    mask[-1, -1] = True
    dense = np.kron(mask, np.ones((block, block)))[:rows, :cols] * rng.standard_normal((rows, cols))
    dense = dense.astype(dtype)
    pattern = tk.BlockPattern.from_mask(mask, block, (rows, cols))
    return pattern.gather(dense), pattern, dense


def close(result, right, dtype):
    assert result.dtype == dtype
    scale = np.abs(right).max() or 1
    assert np.abs(result.astype(np.float64) - right).max() <= kTolerance[np.dtype(dtype).name] * scale


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("block", [16, 32, 64, 128])
def test_products(rng, dtype, block):
    values, pattern, dense = random_sparse(rng, 150, 200, block, 0.5, dtype)
    wide = dense.astype(np.float64)
    assert np.array_equal(pattern.scatter(values), dense)
    b = rng.standard_normal((200, 37)).astype(dtype)
    c = rng.standard_normal((150, 37)).astype(dtype)
    close(tk.spmm((values, pattern), b), wide @ b, dtype)
    before = c.copy()
    close(tk.spmm((values, pattern), b, c=c, alpha=0.5, beta=-2.0), 0.5 * (wide @ b) - 2.0 * c, dtype)
    assert np.array_equal(c, before), "c is an input"
    x = rng.standard_normal((2, 5, 200)).astype(dtype)
    bias = rng.standard_normal(150).astype(dtype)
    for name, function in ACTIVATIONS.items():
        close(tk.linear(x, (values, pattern), bias, activation=name), function(x.astype(np.float64) @ wide.T + bias), dtype)
    d = rng.standard_normal((150, 24)).astype(dtype)
    e = rng.standard_normal((200, 24)).astype(dtype)
    right = d.astype(np.float64) @ e.T
    sampled = tk.sddmm(d, e, pattern)
    close(sampled, pattern.gather(right), dtype)
    close(tk.sddmm(d.T, e.T, pattern, layout="xt_y", values=sampled, alpha=2.0, beta=0.5),
          2 * pattern.gather(right) + 0.5 * sampled.astype(np.float64), dtype)


@pytest.mark.parametrize("order", ["C", "F", "reversed", "strided"])
def test_any_strides(rng, order):
    values, pattern, dense = random_sparse(rng, 64, 96, 16, 0.5, "float64")
    b = rng.standard_normal((96, 8))
    given = {"C": b, "F": np.asfortranarray(b), "reversed": b[::-1, ::-1], "strided": np.repeat(b, 2, 1)[:, ::2]}[order]
    close(tk.spmm((values, pattern), given), dense @ given, "float64")


def test_scipy(rng):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    dense = rng.standard_normal((96, 64)) * np.kron(rng.random((6, 4)) < 0.5, np.ones((16, 16)))
    a = sparse.bsr_array(sparse.csr_array(dense).tobsr((16, 16)))
    b = rng.standard_normal((64, 9))
    close(tk.spmm(a, b), dense @ b, "float64")
    close(tk.linear(b.T.copy(), a), b.T @ dense.T, "float64")
    # Columns out of order, as SciPy allows.
    data, indices = a.data.copy(), a.indices.copy()
    for begin, end in zip(a.indptr, a.indptr[1:]):
        data[begin:end], indices[begin:end] = data[begin:end][::-1].copy(), indices[begin:end][::-1].copy()
    shuffled = sparse.bsr_array((data, indices, a.indptr), shape=a.shape)
    close(tk.spmm(shuffled, b), dense @ b, "float64")
    assert np.array_equal(shuffled.indices, indices), "the operand is not changed"
    with pytest.raises(ValueError, match="16 x 32"):
        tk.spmm(sparse.csr_array(dense).tobsr((16, 32)), b)


def attention_reference(q, k, v, causal=False, scale=None, window=(-1, -1), softcap=0.0, sinks=None):
    q, k, v = (np.asarray(array, np.float64) for array in (q, k, v))
    group = q.shape[2] // k.shape[2]
    k, v = np.repeat(k, group, 2), np.repeat(v, group, 2)
    # The library holds the scale in float32.
    logits = np.einsum("bihd,bjhd->bhij", q, k) * np.float64(np.float32(scale or q.shape[-1]**-0.5))
    if softcap:
        logits = softcap * np.tanh(logits / softcap)
    i = np.arange(q.shape[1])[:, None] + k.shape[1] - q.shape[1]
    j = np.arange(k.shape[1])[None, :]
    hidden = np.zeros(logits.shape[-2:], bool)
    if causal:
        hidden |= j > i
    if window[0] >= 0:
        hidden |= j < i - window[0]
    if window[1] >= 0:
        hidden |= j > i + window[1]
    logits = np.where(hidden, -np.inf, logits)
    if sinks is not None:
        extra = np.broadcast_to(np.asarray(sinks, np.float64)[None, :, None, None], (*logits.shape[:3], 1))
        logits = np.concatenate([logits, extra], -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        top = np.maximum(logits.max(-1, keepdims=True), -1e300)
        weights = np.exp(logits - top)
        total = weights.sum(-1, keepdims=True)
        lse = (np.log(total) + top)[..., 0]
        lse[total[..., 0] == 0] = -np.inf
        weights = np.where(total == 0, 0, weights / np.where(total == 0, 1, total))
    return np.einsum("bhij,bjhd->bihd", weights[..., :k.shape[1]], v), lse


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("options", [
    {}, {"causal": True}, {"softmax_scale": 0.3}, {"window": (5, 2)}, {"softcap": 1.5}, {"sinks": True}, {"num_splits": 3},
    {"causal": True, "window": (7, -1), "softcap": 2.0, "sinks": True, "softmax_scale": 0.5},
], ids=lambda options: "-".join(options) or "plain")
def test_attention(rng, dtype, options):
    options = dict(options)
    if "sinks" in options:
        options["sinks"] = rng.standard_normal(4).astype(np.float32)
    q = rng.standard_normal((2, 11, 4, 24)).astype(dtype)
    k = rng.standard_normal((2, 19, 2, 24)).astype(dtype)
    v = rng.standard_normal((2, 19, 2, 16)).astype(dtype)
    o, lse = tk.attention(q, k, v, return_lse=True, **options)
    options.pop("num_splits", None)
    right, right_lse = attention_reference(q, k, v, scale=options.pop("softmax_scale", None), **options)
    close(o, right, dtype)
    close(lse, right_lse, "float32")


def test_attention_sequences(rng):
    """Packed sequences and a paged cache, each sequence against itself alone."""
    lengths = [5, 0, 12]
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)  # int64: the library gets int32
    q, k, v = (rng.standard_normal((17, heads, 8)) for heads in (4, 2, 2))
    o = tk.attention(q, k, v, causal=True, cu_seqlens_q=bounds, cu_seqlens_k=bounds, max_seqlen_q=12, max_seqlen_k=12)
    for begin, end in [(0, 5), (5, 17)]:
        right, _ = attention_reference(q[None, begin:end], k[None, begin:end], v[None, begin:end], causal=True)
        close(o[begin:end], right[0], "float64")
    pages_k, pages_v = rng.standard_normal((6, 16, 2, 8)), rng.standard_normal((6, 16, 2, 8))
    table, used = np.array([[3, 1], [0, 5]], np.int32), np.array([20, 7], np.int32)
    q = rng.standard_normal((2, 1, 4, 8))
    o = tk.attention(q, pages_k, pages_v, block_table=table, seqused_k=used)
    for b in range(2):
        keys, values = (pages[table[b]].reshape(1, 32, 2, 8)[:, :used[b]] for pages in (pages_k, pages_v))
        close(o[b:b + 1], attention_reference(q[b:b + 1], keys, values)[0], "float64")


def test_block_sparse_attention(rng):
    """Each attended set of keys on its own: a query block's result is attention over its blocks' keys alone."""
    q, k, v = (rng.standard_normal((1, length, heads, 8)) for length, heads in ((130, 4), (200, 2), (200, 2)))
    mask = (rng.random((1, 4, 3, 4)) < 0.5).astype(np.uint8)
    mask[0, 0, 0], mask[0, 1, 2] = 0, 1
    pattern = tk.AttentionPattern.from_mask(mask, 130, 200)
    for _ in range(2):
        o, lse = tk.block_sparse_attention(q, k, v, pattern, return_lse=True)
        assert np.array_equal(pattern.mask(), mask)
        for head in range(4):
            for row in range(3):
                queries = slice(64 * row, min(64 * row + 64, 130))
                keys = np.repeat(mask[0, head, row], 64)[:200].astype(bool)
                if not keys.any():
                    assert not o[0, queries, head].any() and np.isneginf(lse[0, head, queries]).all()
                    continue
                right, right_lse = attention_reference(q[:, queries, head:head + 1],
                                                       k[:, keys, head // 2:head // 2 + 1],
                                                       v[:, keys, head // 2:head // 2 + 1])
                close(o[:, queries, head:head + 1], right, "float64")
                close(lse[:, head:head + 1, queries], right_lse, "float32")
        mask = np.ascontiguousarray(mask[:, ::-1])  # another mask into the same pattern
        counts = mask.sum(-1, dtype=np.int64)
        pattern.update_lists(np.argsort(1 - mask, -1, kind="stable"), counts=counts)
    with pytest.raises(tk.Error, match="seqlen_q"):
        tk.attention(q[:, 1:], k, v, pattern=pattern)
    loaded = pickle.loads(pickle.dumps(pattern))
    assert np.array_equal(loaded.mask(), mask) and loaded.block_size == (64, 64)


def test_pattern(rng):
    mask = rng.random((5, 7)) < 0.4
    pattern = tk.BlockPattern.from_mask(mask, 32, (150, 220))
    assert np.array_equal(pattern.mask(), mask)
    assert (pattern.shape, pattern.block_shape, pattern.nnz_blocks) == ((150, 220), (5, 7), mask.sum())
    assert pattern.density == pytest.approx(mask.mean())
    assert np.array_equal(pattern.transposed().mask(), mask.T)
    assert pattern.transposed().transposed().shape == pattern.shape
    for same in (pickle.loads(pickle.dumps(pattern)),
                 tk.BlockPattern.from_bsr(pattern.crow_indices.astype(np.int64), pattern.col_indices, (150, 220), 32),
                 tk.BlockPattern.from_dense(pattern.scatter(np.ones((pattern.nnz_blocks, 32, 32), np.float32)), 32)):
        assert np.array_equal(same.mask(), mask) and same.shape == (150, 220)
    blocks_of_transposed = pattern.gather(np.arange(150 * 220, dtype=np.float64).reshape(150, 220))[
        pattern.transposed_positions()].transpose(0, 2, 1)
    assert np.array_equal(blocks_of_transposed,
                          pattern.transposed().gather(np.arange(150 * 220, dtype=np.float64).reshape(150, 220).T.copy()))


@pytest.mark.parametrize("call, error, words", [
    (lambda: tk.BlockPattern.from_bsr([0, 2], [1, 0], (16, 32), 16), ValueError, "ascend"),
    (lambda: tk.BlockPattern.from_bsr([0, 1], [0], (16, 16), 17), ValueError, "block_size"),
    (lambda: tk.BlockPattern.from_bsr([0, 1], [0], 16, 16), ValueError, "shape"),
    (lambda: tk.BlockPattern.from_mask(np.ones(3, bool), 16), ValueError, "dimensions"),
    (lambda: tk.spmm(eye(), np.ones((5, 2))), ValueError, r"accepted: \[16, 2\]"),
    (lambda: tk.spmm(eye(), np.ones(16)), ValueError, "accepted"),
    (lambda: tk.spmm(eye(), np.ones((16, 2), np.float32)), ValueError, "float32"),
    (lambda: tk.spmm(eye(), np.ones((16, 2)), beta=1.0), ValueError, "there is no c"),
    (lambda: tk.spmm(np.eye(16), np.ones((16, 2))), ValueError, "SciPy BSR"),
    (lambda: tk.linear(np.ones((2, 16)), eye(), activation="tanh"), ValueError, "'silu'"),
    (lambda: tk.linear(np.ones((2, 17)), eye()), ValueError, r"\[\.\.\., 16\]"),
    (lambda: tk.linear(np.ones((2, 16)), eye(), np.ones(15)), ValueError, "bias"),
    (lambda: tk.sddmm(np.ones((16, 2)), np.ones((16, 2)), eye()[1], layout="yx"), ValueError, "'xt_y'"),
    (lambda: tk.attention(*[np.ones((2, 3, 8))] * 3), ValueError, "4, "),
    (lambda: tk.attention(*[np.ones((1, 2, 3, 9))] * 3), ValueError, "head dimension 9"),
    (lambda: tk.attention(*[np.ones((1, 2, 3, 8))] * 3, window=3), ValueError, "window"),
    (lambda: tk.attention(*[np.ones((1, 2, 3, 8))] * 3, softmax_scale=-1.0), ValueError, "softmax_scale"),
    (lambda: tk.attention(*[np.ones((1, 2, 3, 8), np.int32)] * 3), ValueError, "int32"),
    (lambda: tk.attention(*[np.ones((1, 2, 3, 8), np.complex64)] * 3), NotImplementedError, "complex64"),
    (lambda: tk.kernels("tpu"), ValueError, "tpu"),
])
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert isinstance(caught.value, tk.Error)


def eye():
    pattern = tk.BlockPattern.from_mask(np.ones((1, 1), bool), 16)
    return np.eye(16)[None], pattern


def test_sizes_of_zero():
    pattern = tk.BlockPattern.from_mask(np.zeros((2, 3), bool), 16)
    values = np.empty((0, 16, 16))
    assert not tk.spmm((values, pattern), np.ones((48, 4))).any()
    assert tk.spmm((values, pattern), np.ones((48, 0))).shape == (32, 0)
    assert tk.linear(np.ones((0, 48)), (values, pattern)).shape == (0, 32)
    assert tk.sddmm(np.ones((32, 4)), np.ones((48, 4)), pattern).shape == (0, 16, 16)


def test_information():
    names = {kernel["name"] for kernel in tk.kernels() if kernel["can_run"]}
    assert {"cpu_spmm", "cpu_linear", "cpu_sddmm", "cpu_attention_forward"} <= names
    tk.spmm(eye(), np.ones((16, 2)))
    assert tk.last_kernel() == "cpu_spmm"


def test_threads(rng):
    """Calls of many threads at once do not mix their arguments."""
    from concurrent.futures import ThreadPoolExecutor
    values, pattern, dense = random_sparse(rng, 64, 64, 16, 0.6, "float64")
    inputs = [rng.standard_normal((64, 3 + n % 5)) for n in range(64)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda b: tk.spmm((values, pattern), b), inputs))
    for b, result in zip(inputs, results):
        close(result, dense @ b, "float64")


def fresh_python(code, **environment):
    import pathlib
    package = pathlib.Path(tk.__file__).resolve().parents[1]
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path, **environment})


def test_torch_stays_out():
    """NumPy's functions work where PyTorch cannot be imported, and import nothing of it."""
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("no torch here")
sys.meta_path.insert(0, Refuse())
import numpy as np, triage_kernels as tk
pattern = tk.BlockPattern.from_mask(np.ones((1, 1), bool), 16)
assert (tk.spmm((np.eye(16)[None], pattern), np.ones((16, 2))) == 1).all()
assert tk.attention(*[np.ones((1, 2, 3, 8))] * 3).shape == (1, 2, 3, 8)
assert "torch" not in sys.modules
"""
    finished = fresh_python(code)
    assert finished.returncode == 0, finished.stderr


def test_missing_library():
    finished = fresh_python("import triage_kernels; triage_kernels.library_version()", TRIAGE_LIBRARY="/nowhere/lib.so")
    assert finished.returncode == 1
    assert "pip install ." in finished.stderr and "/nowhere/lib.so" in finished.stderr
