"""The gradients of a block-sparse linear layer beside its forward and the dense product, through PyTorch's autograd.

    python3 bench/sparse_gradients.py            # 8192 x 8192 x 8192, float16, uniform patterns; needs an H100's memory

TFLOP/s count nonzero blocks. All contenders take turns; the median of the turns counts.
"""

import argparse
import statistics

import torch

import triage_kernels as tk


def timed(call, launches):
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(launches):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / launches


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--density", type=float, nargs="*", default=[0.22, 0.05])
    parser.add_argument("--turns", type=int, default=8)
    options = parser.parse_args()
    n, kind = options.size, {"device": "cuda", "dtype": torch.float16}
    torch.manual_seed(1)
    dense, x, dy = (torch.randn(n, n, **kind) for _ in range(3))
    trained_x = x.clone().requires_grad_()
    print(f"{'block':>5} {'density':>8} {'forward':>8} {'dX':>8} {'dW':>8} {'dense':>8}   dX/forward  dW/dense")
    for block in (16, 32, 64, 128):
        for density in options.density:
            mask = torch.rand(n // block, n // block, device="cuda") < density
            pattern = tk.BlockPattern.from_mask(mask, block)
            values = torch.randn(int(mask.sum()), block, block, **kind)
            trained_values = values.clone().requires_grad_()
            # A graph each: a backward computes the gradient of every tensor that asks for one.
            of_x = tk.sparse_linear(trained_x, (values, pattern))
            of_values = tk.sparse_linear(x, (trained_values, pattern))
            calls = [
                lambda: tk.sparse_linear(x, (values, pattern)),
                lambda: torch.autograd.grad(of_x, trained_x, dy, retain_graph=True),
                lambda: torch.autograd.grad(of_values, trained_values, dy, retain_graph=True),
                lambda: torch.matmul(dense, dy),
            ]
            times = [[] for _ in calls]
            for _ in range(options.turns):
                for call, list_of_times in zip(calls, times):
                    timed(call, 5)
                    list_of_times.append(timed(call, 20))
            forward, d_x, d_w, full = (statistics.median(t) for t in times)
            work = 2e-9 * n * values.numel()
            rates = [work / forward, work / d_x, work / d_w, 2e-9 * n**3 / full]
            print(f"{block:5} {density:8} " + " ".join(f"{rate:8.0f}" for rate in rates) +
                  f"   {forward / d_x:10.2f}  {rates[2] / rates[3]:8.2f}", flush=True)


if __name__ == "__main__":
    main()
