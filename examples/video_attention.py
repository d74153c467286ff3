"""Block-sparse attention over a video-shaped sequence (a window and the best blocks) against dense attention.

    pip install '.[torch]' matplotlib
    python examples/video_attention.py [--frames 16 --height 48 --width 80] [--top 16] [--device cuda]

Tokens are put in the order of tiles (4 frames x 4 rows x 4 columns, 64 tokens; with --block 128 twice as wide), so that
a block of scores joins two neighbourhoods. Every query tile attends the tiles around it and, in each head, the `--top`
tiles whose mean key has the largest product with its mean query. Queries and keys are synthetic: they tell where a
token is and to which of some moving objects it belongs, as a diffusion model's do; what belongs together may be far
apart in time, where a window alone does not reach.
"""

import argparse
import sys
import time

import torch
from torch.nn import functional

import triage_kernels as tk

kTileFrames = kTileHeight = 4


class Video:
    """Sizes in tokens, and the order of tiles."""

    def __init__(self, frames, height, width, block, device):
        self.sizes, self.device = (frames, height, width), device
        self.tile = (kTileFrames, kTileHeight, block // (kTileFrames * kTileHeight))
        self.tiles = tuple(size // tile for size, tile in zip(self.sizes, self.tile))
        self.tokens = frames * height * width
        # order[i]: which token of the frames, read row by row, stands at place i.
        grid = torch.arange(self.tokens, device=device).view(*(n for pair in zip(self.tiles, self.tile) for n in pair))
        self.order = grid.permute(0, 2, 4, 1, 3, 5).flatten()

    def places(self):
        """(frame, row, column) of each token in the order of tiles, float [tokens, 3]."""
        axes = torch.meshgrid(*(torch.arange(size, device=self.device) for size in self.sizes), indexing="ij")
        return torch.stack(axes, -1).flatten(0, 2)[self.order].float()

    def window(self, reach):
        """bool [tiles, tiles]: tiles at most `reach` (frames, rows, columns) of tiles apart."""
        axes = torch.meshgrid(*(torch.arange(n, device=self.device) for n in self.tiles), indexing="ij")
        near = True
        for axis, limit in zip(axes, reach):
            axis = axis.flatten()
            near = near & ((axis[:, None] - axis[None, :]).abs() <= limit)
        return near


def synthetic(video, heads, dim, dtype, objects=12):
    """q, k, v [1, tokens, heads, dim]: random features of the place (nearness) and of the object that covers it."""
    place = video.places()
    scaled = place / place.new_tensor([4.0, 6.0, 6.0])  # where nearness ends, in tokens
    waves = torch.randn(3, dim // 2, device=video.device)
    near = torch.cat([(scaled @ waves).cos(), (scaled @ waves).sin()], 1)
    size = place.new_tensor(video.sizes)
    start, speed = torch.rand(objects, 2, device=video.device), torch.rand(objects, 2, device=video.device) - 0.5
    centre = (start + speed * (place[:, None, :1] / size[0])) % 1.0  # [tokens, objects, 2]
    covers = ((place[:, None, 1:] / size[1:] - centre).norm(dim=-1) / 0.12).square()
    distance, owner = covers.min(1)
    owner = torch.where(distance < 1, owner, objects)  # the last one is the background
    signs = torch.randn(objects + 1, dim, device=video.device)
    signs[-1] = 0
    # Logits of 16 within a place and of up to as much within an object, however long the heads are.
    near, signs = near * (32 * dim**-0.5)**0.5, signs * (16 * dim**-0.5)**0.5
    parts = []
    for head in range(heads):
        q = k = near + (head / heads)**0.5 * signs[owner]  # from heads that look near to heads that follow their object
        noise = 0.4 * torch.randn(2, *q.shape, device=video.device)
        v = torch.cat([near, signs[owner]], 1)[:, torch.randperm(2 * dim, device=video.device)[:dim]]
        parts.append((q + noise[0], k + noise[1], v + 0.1 * torch.randn_like(v)))
    return tuple(torch.stack(tensors, 1)[None].to(dtype) for tensors in zip(*parts))


def best_tiles(q, k, block, top):
    """int64 [1, heads, tiles, top]: for each query tile the key tiles by the product of their means."""
    q, k = (tensor.unflatten(1, (-1, block)).float().mean(2).transpose(1, 2) for tensor in (q, k))
    return (q @ k.transpose(2, 3)).topk(top).indices


def with_window(window, chosen):
    """uint8 [1, heads, tiles, tiles] of the window and the chosen tiles, all attended in full (2)."""
    mask = window.expand(*chosen.shape[:2], -1, -1).to(torch.uint8)
    return mask.scatter(-1, chosen, 1) * 2


def dense_attention(q, k, v):
    return functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)


def milliseconds(function, device, repeats):
    """Best time of a call, after one that does not count."""
    function()
    best = float("inf")
    for _ in range(repeats):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            function()
            end.record()
            torch.cuda.synchronize()
            best = min(best, begin.elapsed_time(end))
        else:
            begin = time.perf_counter()
            function()
            best = min(best, 1e3 * (time.perf_counter() - begin))
    return best


def relative_error(given, right):
    return ((given.float() - right.float()).norm() / right.float().norm()).item()


def plot(path, video, mask, errors):
    """One head's blocks; what one query tile attends; the error of every token of the middle frame."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.2))
    axes[0].imshow(mask.cpu().numpy(), cmap="Greys", interpolation="nearest")
    axes[0].set(title=f"head 0: attended tiles ({100 * (mask != 0).float().mean().item():.1f}%)", xlabel="key tile",
                ylabel="query tile")
    frames, rows, cols = video.tiles
    query = (frames // 2 * rows + rows // 2) * cols + cols // 2
    seen = (mask[query] != 0).view(video.tiles).permute(1, 0, 2).flatten(1)  # the tile layers side by side
    axes[1].imshow(seen.cpu().numpy(), cmap="Greens", interpolation="nearest", aspect="auto")
    for frame in range(1, frames):
        axes[1].axvline(frame * cols - 0.5, color="gray", linewidth=0.5)
    axes[1].plot([query // (rows * cols) * cols + query % cols], [query // cols % rows], "r+", markersize=10)
    axes[1].set(title="what tile + attends, by layer of frames", xlabel="tile column, by layer",
                ylabel="tile row")
    image = torch.empty_like(errors)
    image[video.order] = errors
    picture = axes[2].imshow(image.view(video.sizes)[video.sizes[0] // 2].cpu().numpy(), cmap="magma")
    figure.colorbar(picture, ax=axes[2])
    axes[2].set(title="error of each token, middle frame", xlabel="column", ylabel="row")
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, on_cpu, on_gpu in (("frames", 8, 16), ("height", 16, 48), ("width", 24, 80), ("heads", 2, 16),
                                 ("dim", 64, 128)):
        parser.add_argument(f"--{name}", type=int, help=f"default {on_gpu}, on the CPU {on_cpu}")
        parser.set_defaults(**{f"{name}_": (on_cpu, on_gpu)})
    parser.add_argument("--block", type=int, default=64, choices=(64, 128),
                        help="tokens of a tile; default %(default)s")
    parser.add_argument("--window", type=int, nargs=3, default=(1, 1, 1), metavar=("FRAMES", "ROWS", "COLUMNS"),
                        help="reach of the window in tiles to each side; default 1 1 1")
    parser.add_argument("--top", type=int, default=16, help="tiles beside the window; default %(default)s")
    parser.add_argument("--plot", default="video_attention.png", help="file for the picture; default %(default)s")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    sizes = {name: getattr(options, name) or getattr(options, f"{name}_")[cuda]
             for name in ("frames", "height", "width", "heads", "dim")}
    for name, tile in (("frames", kTileFrames), ("height", kTileHeight), ("width", options.block // 16)):
        if sizes[name] < tile or sizes[name] % tile:
            parser.error(f"--{name}: {sizes[name]}, accepted: a positive multiple of {tile}")
    dtype = torch.bfloat16 if cuda else torch.float32

    torch.manual_seed(0)
    with torch.no_grad():
        video = Video(sizes["frames"], sizes["height"], sizes["width"], options.block, device)
        tiles = video.tokens // options.block
        top = min(options.top, tiles)
        q, k, v = synthetic(video, sizes["heads"], sizes["dim"], dtype)
        dense = dense_attention(q, k, v)
        repeats = 5 if cuda else 3
        dense_ms = milliseconds(lambda: dense_attention(q, k, v), device, repeats)
        name = torch.cuda.get_device_name(device) if cuda else "CPU"
        print(f"{' x '.join(map(str, video.sizes))} = {video.tokens} tokens, {sizes['heads']} heads of {sizes['dim']}, "
              f"{str(dtype)[6:]}, {name}; tiles of {' x '.join(map(str, video.tile))}")
        print(f"{'':>14} {'attended':>9} {'ms':>9} {'speed-up':>9} {'error':>9}")
        print(f"{'dense':>14} {1:9.1%} {dense_ms:9.3f} {1:9.2f}")

        window = video.window(options.window)
        chosen = best_tiles(q, k, options.block, top)
        masks = {"window": 2 * window.to(torch.uint8)[None, None],
                 f"top {top}": with_window(torch.zeros_like(window), chosen),
                 f"window + {top}": with_window(window, chosen)}
        errors = {}
        for name, mask in masks.items():
            pattern = tk.AttentionPattern.from_mask(mask, video.tokens, video.tokens, options.block)
            o = tk.block_sparse_attention(q, k, v, pattern)
            errors[name] = relative_error(o, dense)
            ms = milliseconds(lambda: tk.block_sparse_attention(q, k, v, pattern), device, repeats)
            print(f"{name:>14} {pattern.density():9.1%} {ms:9.3f} {dense_ms / ms:9.2f} {errors[name]:9.4f}")
        # What a step of a model pays for another mask.
        choose_ms = milliseconds(lambda: with_window(window, best_tiles(q, k, options.block, top)), device, repeats)
        update_ms = milliseconds(lambda: pattern.update_mask(mask), device, repeats)
        print(f"choosing tiles takes {choose_ms:.3f} ms, putting them into the pattern {update_ms:.3f} ms")

        # The kernel itself: with every block attended it is dense attention.
        everything = tk.AttentionPattern.from_mask(torch.full((tiles, tiles), 2, dtype=torch.uint8, device=device),
                                                   video.tokens, video.tokens, options.block)
        exact = relative_error(tk.block_sparse_attention(q, k, v, everything), dense)
        print(f"with every tile attended the error is {exact:.2g}")
        if not exact < (2e-2 if cuda else 1e-4):
            sys.exit("block-sparse attention over all blocks is not dense attention")
        try:
            each = (o.float() - dense.float()).flatten(2).norm(dim=-1)[0] / dense.float().flatten(2).norm(dim=-1)[0]
            plot(options.plot, video, mask[0, 0], each)
            print(f"picture: {options.plot}")
        except ImportError:
            print("no picture: matplotlib is not installed")
    return dense_ms, ms, errors


if __name__ == "__main__":
    main()
