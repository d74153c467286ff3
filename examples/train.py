"""Trains a small transformer on scikit-learn's digits from scratch, dense and block-sparse, and plots accuracy against density.

    pip install '.[torch]' scikit-learn matplotlib
    python examples/train.py [--densities 1.0 0.5 0.25 0.125] [--epochs 24] [--device cuda] [--plot accuracy.png]

An image is 8 x 8 pixels: eight tokens, its rows. The dense model is nn.Linear and PyTorch's attention; the block-sparse ones
have BlockSparseLinear with blocks of 16 inside the layers (the classes' head stays dense) and triage_kernels.attention. At
density 1.0 both start from the same weights, so their loss curves are the same within rounding.
"""

import argparse
import copy
import time

import torch
from torch import nn

import triage_kernels as tk


class Attention(nn.Module):
    def __init__(self, width, heads, function):
        super().__init__()
        self.heads, self.function = heads, function
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.heads, -1).unbind(2)
        return self.out(self.function(q, k, v).flatten(2))


def torch_attention(q, k, v):
    return nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)


class Block(nn.Module):
    def __init__(self, width, heads, function):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, function)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Classifier(nn.Module):
    def __init__(self, width=64, heads=4, layers=2, function=torch_attention):
        super().__init__()
        self.embed, self.position = nn.Linear(8, width), nn.Parameter(torch.randn(8, width) * 0.02)
        self.layers = nn.Sequential(*(Block(width, heads, function) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, images):
        return self.head(self.norm(self.layers(self.embed(images) + self.position)).mean(1))


def sparse_model(dense, density):
    """The dense model's architecture with block-sparse layers: its weights at density 1.0, else new ones."""
    model = copy.deepcopy(dense)
    for name, layer in list(model.layers.named_modules()):
        if isinstance(layer, Attention):
            layer.function = tk.attention
        if isinstance(layer, nn.Linear):
            parent, _, child = name.rpartition(".")
            if density == 1.0:
                sparse = tk.BlockSparseLinear.from_linear(layer, 16)
            else:
                sparse = tk.BlockSparseLinear(layer.in_features, layer.out_features, 16, density=density,
                                              device=layer.weight.device)
            setattr(model.layers.get_submodule(parent), child, sparse)
    return model


def train(model, data, epochs, batch=128):
    """(losses of the epochs, accuracy on the test set, seconds)"""
    images, labels, test_images, test_labels = data
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    generator = torch.Generator().manual_seed(1)  # every model sees the same batches
    losses, begin = [], time.perf_counter()
    for _ in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(images), generator=generator).split(batch):
            loss = nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
        schedule.step()
        losses.append(total / len(images))
    with torch.no_grad():
        accuracy = (model(test_images).argmax(1) == test_labels).float().mean().item()
    return losses, accuracy, time.perf_counter() - begin


def load(device):
    from sklearn.datasets import load_digits
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32, device=device) / 16
    labels = torch.tensor(digits.target, device=device)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).to(device)
    train_set, test_set = order[:1437], order[1437:]
    return images[train_set], labels[train_set], images[test_set], labels[test_set]


def plot(path, dense_accuracy, accuracies):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(6, 4))
    axes.plot(list(accuracies), [100 * accuracy for accuracy in accuracies.values()], "o-", label="block-sparse")
    axes.axhline(100 * dense_accuracy, color="gray", linestyle="--", label="dense")
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(accuracies), [f"{density:g}" for density in accuracies])
    axes.set(xlabel="density of the weights (share of blocks of 16 x 16)", ylabel="accuracy on the test set, %",
             title="Digits, trained from scratch")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--densities", type=float, nargs="+", default=[1.0, 0.5, 0.25, 0.125])
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--plot", help="file for the picture, e.g. accuracy.png")
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error("--epochs: at least 1")
    torch.manual_seed(0)
    data = load(options.device)
    dense = Classifier().to(options.device)
    models = {density: sparse_model(dense, density) for density in options.densities}
    precision = torch.autocast("cuda", torch.bfloat16, enabled=options.device.startswith("cuda"))  # GPU kernels: 16 bits
    with precision:
        dense_losses, dense_accuracy, seconds = train(dense, data, options.epochs)
    print(f"{'dense':>13}: loss {dense_losses[-1]:.4f}, accuracy {100 * dense_accuracy:.1f}%, {seconds:.1f} s")
    accuracies = {}
    for density, model in models.items():
        with precision:
            losses, accuracies[density], seconds = train(model, data, options.epochs)
        line = f"density {density:5.3g}: loss {losses[-1]:.4f}, accuracy {100 * accuracies[density]:.1f}%, {seconds:.1f} s"
        if density == 1.0:
            apart = max(abs(a - b) for a, b in zip(losses, dense_losses))
            line += f"; loss curve within {apart:.2g} of the dense one's"
        print(line)
    if options.plot:
        plot(options.plot, dense_accuracy, accuracies)
        print(f"picture: {options.plot}")
    return dense_losses, dense_accuracy, accuracies


if __name__ == "__main__":
    main()
