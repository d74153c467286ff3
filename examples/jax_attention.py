"""Block-sparse attention on JAX arrays, forward: through DLPack without a copy on the host, and inside jax.jit.

    pip install . jax
    python examples/jax_attention.py [--tokens 1024] [--top 4]

On the host triage_kernels reads JAX's arrays and gives NumPy's. In a GPU's memory a JAX array becomes a PyTorch tensor
through DLPack first, and the result a JAX array in the same way (that way is untested).
"""

import argparse
import sys

import numpy as np

try:
    import jax
    from jax import numpy as jnp
except ImportError:
    sys.exit("this example needs JAX, which is not installed: pip install jax")

import triage_kernels as tk

kBlock = 64


def attention(q, k, v, pattern):
    """q, k, v [batch, tokens, heads, dim] of JAX, anywhere: attention over the pattern's blocks."""
    if next(iter(q.devices())).platform == "cpu":
        return jnp.asarray(tk.block_sparse_attention(q, k, v, pattern, causal=True))
    import torch
    result = tk.block_sparse_attention(*map(torch.from_dlpack, (q, k, v)), pattern, causal=True)
    return jax.dlpack.from_dlpack(result)


def attention_in_jit(q, k, v, pattern):
    """The same where q, k and v are being traced: the call goes through the host."""
    def call(*qkv):
        return tk.block_sparse_attention(*map(np.asarray, qkv), pattern, causal=True)
    return jax.pure_callback(call, jax.ShapeDtypeStruct((*q.shape[:-1], v.shape[-1]), q.dtype), q, k, v)


def best_blocks(q, k, top):
    """int32 [1, heads, blocks, top]: the blocks of keys whose mean has the largest product with the mean query, the
    last of them the query's own; those behind it are none (-1)."""
    means = [x.reshape(x.shape[0], -1, kBlock, *x.shape[2:]).mean(2).transpose(0, 2, 1, 3) for x in (q, k)]
    scores = means[0] @ means[1].swapaxes(2, 3)
    blocks = jnp.arange(scores.shape[-1])
    scores = jnp.where(blocks[None, :] < blocks[:, None], scores, -jnp.inf)  # before the diagonal
    best, chosen = jax.lax.top_k(scores, top - 1)
    own = jnp.broadcast_to(blocks[:, None], (*chosen.shape[:3], 1))
    return jnp.concatenate([jnp.where(best > -jnp.inf, chosen, -1), own], -1).astype(jnp.int32)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--top", type=int, default=4, help="blocks of keys that a block of queries attends")
    options = parser.parse_args(arguments)
    if options.tokens < kBlock or options.tokens % kBlock or not 1 <= options.top <= options.tokens // kBlock:
        parser.error(f"--tokens: a positive multiple of {kBlock}; --top: 1 to the number of blocks")
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, options.tokens, 4, 64))
    chosen = best_blocks(q, k, options.top)
    on_host = next(iter(q.devices())).platform == "cpu"
    if on_host:
        indices = np.asarray(chosen)
    else:
        import torch
        indices = torch.from_dlpack(chosen)
    pattern = tk.AttentionPattern.from_topk(indices, options.tokens, options.tokens, kBlock)

    # The meaning: the same blocks as a dense mask.
    blocks = np.asarray(pattern.mask() if on_host else pattern.mask().cpu()) != 0
    mask = np.repeat(np.repeat(blocks, kBlock, 2), kBlock, 3)
    right = jax.nn.dot_product_attention(q, k, v, mask=jnp.asarray(mask), is_causal=True)
    error = float(jnp.abs(attention(q, k, v, pattern) - right).max())
    print(f"{pattern}: {100 * pattern.density():.1f}% of the blocks, largest difference from dense attention "
          f"{error:.2g}")
    errors = [error]
    if on_host:
        traced = jax.jit(lambda *qkv: attention_in_jit(*qkv, pattern))(q, k, v)
        errors.append(float(jnp.abs(traced - right).max()))
        print(f"inside jax.jit: {errors[-1]:.2g}")
    if not max(errors) < 1e-4:
        sys.exit("the results differ")
    return errors


if __name__ == "__main__":
    main()
