"""Block-sparse attention on CuPy arrays, forward, on CuPy's current stream, without copies and without PyTorch.

    pip install . cupy-cuda13x
    python examples/cupy_attention.py [--tokens 4096] [--density 0.25]
"""

import argparse
import sys

try:
    import cupy
except ImportError:
    sys.exit("this example needs CuPy, which is not installed: pip install cupy-cuda13x")

import triage_kernels as tk

kBlock = 128


def dense_attention(q, k, v, seen):
    """The meaning, in float32: q, k, v [1, tokens, heads, dim], seen [1, heads or 1, tokens, tokens]."""
    q, k, v = (x.astype(cupy.float32).transpose(0, 2, 1, 3) for x in (q, k, v))
    logits = cupy.where(seen, q @ k.swapaxes(2, 3) * q.shape[-1]**-0.5, -cupy.inf)
    weights = cupy.exp(logits - logits.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--density", type=float, default=0.25)
    options = parser.parse_args(arguments)
    if tk.cuda_device_count() == 0:
        sys.exit("this example needs a GPU that triage_kernels can use; it sees none")
    random = cupy.random.RandomState(0)
    heads, blocks = 4, -(-options.tokens // kBlock)
    q, k, v = (random.standard_normal((1, options.tokens, heads, 128)).astype(cupy.float16) for _ in range(3))
    mask = (random.random_sample((1, heads, blocks, blocks)) < options.density) | cupy.eye(blocks, dtype=bool)
    pattern = tk.AttentionPattern.from_mask(mask, options.tokens, options.tokens, kBlock)
    o, lse = tk.block_sparse_attention(q, k, v, pattern, return_lse=True)
    seen = mask.repeat(kBlock, 2).repeat(kBlock, 3)[:, :, :options.tokens, :options.tokens]
    error = float(cupy.abs(o - dense_attention(q, k, v, seen)).max())
    print(f"{pattern}: {100 * pattern.density():.1f}% of the blocks by {tk.last_kernel()}, largest difference from "
          f"dense attention {error:.2g}")
    if not error < 1e-2:
        sys.exit("the results differ")
    return error


if __name__ == "__main__":
    main()
