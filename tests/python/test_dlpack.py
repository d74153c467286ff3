"""Arrays of other libraries through DLPack, forward."""

import numpy as np
import pytest

import triage_kernels as tk


def test_jax():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    if jax.default_backend() != "cpu":
        pytest.skip("JAX's arrays are not in host memory")
    pattern = tk.BlockPattern.from_mask(np.eye(3, dtype=bool), 16)
    values = jax.numpy.ones((3, 16, 16))
    b = jax.random.normal(jax.random.key(0), (48, 5))
    result = jax.numpy.asarray(tk.spmm((values, pattern), b))
    right = jax.numpy.kron(jax.numpy.eye(3), jax.numpy.ones((16, 16))) @ b
    assert jax.numpy.allclose(result, right, rtol=1e-5, atol=1e-5)
    q = jax.random.normal(jax.random.key(1), (1, 8, 2, 16))
    right = jax.nn.dot_product_attention(q, q, q, is_causal=True)
    assert jax.numpy.allclose(jax.numpy.asarray(tk.attention(q, q, q, causal=True)), right, rtol=1e-5, atol=1e-5)


def test_cupy():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    if tk.cuda_device_count() == 0:
        pytest.skip("the library sees no GPU")
    pattern = tk.BlockPattern.from_mask(cupy.eye(4, dtype=bool), 16)
    values = cupy.ones((4, 16, 16), cupy.float16)
    b = cupy.random.standard_normal((64, 32)).astype(cupy.float16)
    right = cupy.kron(cupy.eye(4), cupy.ones((16, 16))) @ b.astype(cupy.float64)
    assert cupy.allclose(tk.spmm((values, pattern), b), right, rtol=1e-2, atol=1e-2)
