"""One transformer layer of Qwen2.5-7B's shape reads a long prompt, block-sparse against dense, in one run.

    pip install '.[torch]'
    python examples/prefill_layer.py [--tokens 65536] [--density 0.1] [--block 128] [--device cuda]

Weights are random. Dense: torch.matmul (cuBLAS) and SDPA (cuDNN's kernel where there is one). Sparse: of every weight
and of the causal scores of every head, the share `--density` of blocks: triage_kernels.sparse_linear and
block_sparse_attention. Both share what is neither (RMSNorm, RoPE, SwiGLU's product, residuals), under torch.compile on
a GPU. A few rows of the sparse layer are computed again in float32 with dense products under the same masks; the
program fails if they differ.
"""

import argparse
import dataclasses
import statistics
import sys
import time

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

import triage_kernels as tk

PARTS = ("qkv", "attention", "out", "gate/up", "down", "rest")
kTolerance = 0.03  # relative error of bfloat16's whole layer; a wrong block gives some 1


@dataclasses.dataclass
class Shape:
    hidden: int = 3584
    heads: int = 28
    kv_heads: int = 4
    head_dim: int = 128
    mlp: int = 18944
    theta: float = 1e6

    def weights(self):
        """Name, outputs and inputs of each weight."""
        inner = self.heads * self.head_dim
        return {"qkv": (inner + 2 * self.kv_heads * self.head_dim, self.hidden), "out": (self.hidden, inner),
                "gate/up": (2 * self.mlp, self.hidden), "down": (self.hidden, self.mlp)}


# ---- What both layers share ----


def norm(x, weight):
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * weight


def add_norm(x, y, weight):
    x = x + y
    return x, norm(x, weight)


def rotate(x, cos, sin):
    """RoPE on x [tokens, heads, head_dim]."""
    low, high = x.float().chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1).to(x.dtype)


def gated(x):
    gate, up = x.chunk(2, -1)
    return functional.silu(gate) * up


def add(x, y):
    return x + y


class Common:
    def __init__(self, shape, tokens, dtype, device, compiled):
        self.shape = shape
        self.norm1, self.norm2 = (1 + 0.1 * torch.randn(2, shape.hidden, device=device)).to(dtype)
        self.bias = (0.1 * torch.randn(shape.weights()["qkv"][0], device=device)).to(dtype)
        frequencies = shape.theta**-(torch.arange(0, shape.head_dim, 2, device=device) / shape.head_dim)
        angles = torch.arange(tokens, device=device)[:, None, None] * frequencies
        self.cos, self.sin = angles.cos(), angles.sin()  # [tokens, 1, head_dim / 2]
        wrap = torch.compile if compiled else lambda function: function
        self.norm, self.add_norm, self.rotate, self.gated, self.add = map(wrap, (norm, add_norm, rotate, gated, add))


def forward(x, common, layer, mark):
    """x [tokens, hidden] through the layer: (output, what attention gave). mark(part) is called after each part."""
    shape = common.shape
    h = common.norm(x, common.norm1)
    mark("rest")
    qkv = layer.linear("qkv", h, common.bias)
    mark("qkv")
    qkv = qkv.view(len(x), -1, shape.head_dim)
    turned = common.rotate(qkv[:, :shape.heads + shape.kv_heads], common.cos, common.sin)
    q, k, v = turned[:, :shape.heads], turned[:, shape.heads:], qkv[:, shape.heads + shape.kv_heads:]
    arguments = layer.prepare(q, k, v)
    mark("rest")
    o = layer.attention(*arguments)
    mark("attention")
    y = layer.linear("out", o)
    mark("out")
    x, h = common.add_norm(x, y, common.norm2)
    mark("rest")
    h = layer.linear("gate/up", h)
    mark("gate/up")
    h = common.gated(h)
    mark("rest")
    y = layer.linear("down", h)
    mark("down")
    x = common.add(x, y)
    mark("rest")
    return x, o


# ---- The two layers ----


class Sparse:
    def __init__(self, shape, tokens, dtype, device, density, block):
        self.weights = {}
        for name, (rows, cols) in shape.weights().items():
            # The same number of blocks in every row of blocks, at random places.
            scores = torch.rand(-(-rows // block), -(-cols // block), device=device)
            kept = scores.topk(max(1, round(density * scores.shape[1])), 1).indices
            mask = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, kept, True)
            pattern = tk.BlockPattern.from_mask(mask, block, (rows, cols))
            values = torch.randn(pattern.nnz_blocks, block, block, dtype=dtype, device=device)
            values *= (kept.shape[1] * block)**-0.5
            self.weights[name] = values, pattern
        block = max(block, 64)
        self.pattern = tk.AttentionPattern.from_mask(causal_blocks(shape.heads, tokens, density, block, device), tokens,
                                                     tokens, block)

    def linear(self, name, x, bias=None):
        return tk.sparse_linear(x, self.weights[name], bias)

    def prepare(self, q, k, v):
        return q[None], k[None], v[None]

    def attention(self, q, k, v):
        return tk.block_sparse_attention(q, k, v, self.pattern, causal=True)[0].flatten(1)

    def dense_weight(self, name):
        values, pattern = self.weights[name]
        return pattern.scatter(values).float()


def causal_blocks(heads, tokens, density, block, device):
    """uint8 [1, heads, blocks, blocks]: the diagonal (1: causal), and before it at random so many (2: full) that the
    share `density` of the causal blocks is attended."""
    n = -(-tokens // block)
    causal = n * (n + 1) // 2
    chance = max(0.0, density * causal - n) / max(1, causal - n)
    chosen = torch.rand(heads, n, n, device=device) < chance
    return (torch.eye(n, device=device) + 2 * chosen.tril(-1)).to(torch.uint8)[None]


class Dense:
    """`backend`: SDPA's, None for its own choice. `grouped`: whether it takes fewer heads of K and V than of Q."""

    def __init__(self, shape, dtype, device):
        self.weights = {name: torch.randn(rows, cols, dtype=dtype, device=device) * cols**-0.5
                        for name, (rows, cols) in shape.weights().items()}
        self.group = shape.heads // shape.kv_heads
        self.backend, self.grouped = self.choose(shape, dtype, device)

    @staticmethod
    def choose(shape, dtype, device):
        q, k = (torch.zeros(1, heads, 128, shape.head_dim, dtype=dtype, device=device)
                for heads in (shape.heads, shape.kv_heads))
        cudnn = [getattr(SDPBackend, "CUDNN_ATTENTION", None)] if q.is_cuda else []
        for backend in [backend for backend in cudnn if backend is not None]:
            for grouped in (True, False):
                try:
                    key = k if grouped else k.repeat_interleave(shape.heads // shape.kv_heads, 1)
                    with sdpa_kernel(backend):
                        functional.scaled_dot_product_attention(q, key, key, is_causal=True,
                                                                **({"enable_gqa": True} if grouped else {}))
                    return backend, grouped
                except (RuntimeError, TypeError):
                    continue
        return None, False

    def linear(self, name, x, bias=None):
        return functional.linear(x, self.weights[name], bias)

    def prepare(self, q, k, v):
        q, k, v = (tensor.transpose(0, 1)[None] for tensor in (q, k, v))
        if not self.grouped:
            k, v = (tensor.repeat_interleave(self.group, 1) for tensor in (k, v))
        return q, k, v

    def attention(self, q, k, v):
        options = {"enable_gqa": True} if self.grouped else {}
        if self.backend is None:
            o = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            with sdpa_kernel(self.backend):
                o = functional.scaled_dot_product_attention(q, k, v, is_causal=True, **options)
        return o[0].transpose(0, 1).flatten(1)


# ---- Times ----


class Clock:
    """Adds up what passes between calls of mark, by part, in milliseconds."""

    def __init__(self, device):
        self.cuda = torch.device(device).type == "cuda"
        self.marks = [(None, self.now())]

    def now(self):
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def mark(self, part):
        self.marks.append((part, self.now()))

    def times(self):
        if self.cuda:
            torch.cuda.synchronize()
        result = dict.fromkeys(PARTS, 0.0)
        for (_, begin), (part, end) in zip(self.marks, self.marks[1:]):
            result[part] += begin.elapsed_time(end) if self.cuda else 1e3 * (end - begin)
        return result


def measure(x, common, layers, repeats, warm_up):
    """Median milliseconds of each part and of the whole for each layer; the layers take turns."""
    runs = [[] for _ in layers]
    for i in range(warm_up + repeats):
        for layer, times in zip(layers, runs):
            clock = Clock(x.device)
            forward(x, common, layer, clock.mark)
            if i >= warm_up:
                times.append(clock.times())
    return [({part: statistics.median(run[part] for run in times) for part in PARTS},
             statistics.median(sum(run.values()) for run in times)) for times in runs]


# ---- The check ----


def check(x, common, sparse, output, attended, rows):
    """Relative errors (attention's result, the layer's change of x) of some rows against dense float32."""
    shape = common.shape

    def normed(tensor, weight):
        return tensor * torch.rsqrt(tensor.square().mean(-1, keepdim=True) + 1e-6) * weight.float()
    wide = x.float()
    qkv = normed(wide, common.norm1) @ sparse.dense_weight("qkv").T + common.bias.float()
    qkv = qkv.view(len(x), -1, shape.head_dim)
    k = rotate(qkv[:, shape.heads:shape.heads + shape.kv_heads], common.cos, common.sin)
    q = rotate(qkv[rows, :shape.heads], common.cos[rows], common.sin[rows])
    group = shape.heads // shape.kv_heads
    block = sparse.pattern.block_size[0]
    blocks = sparse.pattern.mask()[0][:, rows // block].repeat_interleave(block, 2)[:, :, :len(x)]
    keys = torch.arange(len(x), device=x.device)
    seen = (blocks == 2) | (blocks == 1) & (keys[None, :] <= rows[:, None])
    o = torch.empty(len(rows), shape.heads, shape.head_dim, device=x.device)
    for head in range(shape.heads):
        logits = (q[:, head] @ k[:, head // group].T) * shape.head_dim**-0.5
        weights = torch.softmax(logits.masked_fill(~seen[head], float("-inf")), -1)
        o[:, head] = weights @ qkv[:, shape.heads + shape.kv_heads + head // group]
    o = o.flatten(1)
    first = wide[rows] + o @ sparse.dense_weight("out").T
    last = first + gated(normed(first, common.norm2) @ sparse.dense_weight("gate/up").T) @ sparse.dense_weight("down").T

    def error(given, right):
        return ((given.float() - right).norm() / right.norm()).item()
    return error(attended[rows], o), error(output[rows].float() - wide[rows], last - wide[rows])


def main(arguments=None, shape=Shape()):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tokens", type=int, help="length of the prompt; default 65536, on the CPU 512")
    parser.add_argument("--density", type=float, default=0.1, help="share of blocks that are kept; default %(default)s")
    parser.add_argument("--block", type=int, default=128, choices=(16, 32, 64, 128),
                        help="block of the weights; of attention too, there at least 64")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"),
                        help="default bfloat16, on the CPU float32")
    parser.add_argument("--repeats", type=int, help="default 5, on the CPU 1")
    parser.add_argument("--rows", type=int, default=16, help="rows that are checked; default %(default)s")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile (the CPU's default)")
    options = parser.parse_args(arguments)
    cuda = torch.device(options.device).type == "cuda"
    tokens = options.tokens or (65536 if cuda else 512)
    dtype = getattr(torch, options.dtype or ("bfloat16" if cuda else "float32"))
    if tokens < 1 or not 0 < options.density <= 1:
        parser.error("--tokens: at least 1; --density: above 0, at most 1")

    torch.manual_seed(0)
    with torch.no_grad():
        common = Common(shape, tokens, dtype, options.device, cuda and not options.no_compile)
        sparse = Sparse(shape, tokens, dtype, options.device, options.density, options.block)
        dense = Dense(shape, dtype, options.device)
        x = torch.randn(tokens, shape.hidden, dtype=dtype, device=options.device)
        (sparse_parts, sparse_ms), (dense_parts, dense_ms) = measure(
            x, common, (sparse, dense), options.repeats or (5 if cuda else 1), 2 if cuda else 1)

        n = -(-tokens // sparse.pattern.block_size[0])
        share = sparse.pattern.density() * n * n / (n * (n + 1) / 2)
        print(f"{tokens} tokens, {str(dtype)[6:]}, {torch.cuda.get_device_name() if cuda else 'CPU'}, PyTorch "
              f"{torch.__version__}; SDPA's kernel: {dense.backend.name if dense.backend else 'its own choice'}")
        print(f"density of the weights {options.density:.3g} (blocks of {options.block}), of causal attention "
              f"{share:.3g} (blocks of {sparse.pattern.block_size[0]})")
        print(f"{'ms':>10} {'sparse':>10} {'dense':>10} {'ratio':>7}")
        for part in PARTS:
            print(f"{part:>10} {sparse_parts[part]:10.3f} {dense_parts[part]:10.3f} "
                  f"{dense_parts[part] / sparse_parts[part]:7.2f}")
        print(f"{'layer':>10} {sparse_ms:10.3f} {dense_ms:10.3f} {dense_ms / sparse_ms:7.2f}")

        del dense
        output, attended = forward(x, common, sparse, lambda part: None)
        count = min(options.rows, tokens)
        rows = torch.linspace(0, tokens - 1, count, device=options.device).round().long()
        errors = check(x, common, sparse, output, attended, rows)
    print(f"against float32 with dense products under the same masks, {count} rows: relative error of attention "
          f"{errors[0]:.2g}, of the layer {errors[1]:.2g} (accepted: {kTolerance})")
    if not max(errors) < kTolerance:
        sys.exit("the sparse layer is wrong")
    return sparse_ms, dense_ms, errors


if __name__ == "__main__":
    main()
