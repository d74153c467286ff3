"""What a call from Python costs, in microseconds: the best of many rounds of 20 calls each.

    python3 bench/python_overhead.py            # the path up to the library, on the CPU: a problem without rows
    python3 bench/python_overhead.py --device cuda   # with the launch of the smallest problem's kernel

On the CPU the problem has no rows, so that the library checks the arguments and returns: all that is left is the way there.
The last lines are the C calls alone, made again and again with the same arguments.
"""

import argparse
import time

import torch

import triage_kernels as tk
from triage_kernels import _calls, _library, _torch_arrays


def best(call, rounds=1000, repeats=20, between=lambda: None):
    times = []
    for _ in range(rounds):
        between()
        begin = time.perf_counter()
        for _ in range(repeats):
            call()
        times.append((time.perf_counter() - begin) / repeats)
    return 1e6 * min(times)


def c_call(call):
    """The C call that `call`, a function of _calls, makes: a function of no arguments, which keeps what they point to
    (the frame's memory until the next call of _calls)."""
    found = []

    def keep(name, arrays, frame, arguments, key, like):
        library = _library.library()
        size = _calls._query(library, name, frame, arguments, key)
        owner, address = arrays.scratch(size, like) if size else (None, None)
        arguments = (*arguments, frame.workspace(address, size) if size else None, arrays.stream(like))
        function = getattr(library, name)
        found.append(lambda owner=owner: function(*arguments))
    run, _calls._run = _calls._run, keep
    call()
    _calls._run = run
    return found[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    on_gpu = device.startswith("cuda")
    dtype = torch.float16
    rows = 64 if on_gpu else 0
    between = torch.cuda.synchronize if on_gpu else lambda: None
    pattern = tk.BlockPattern.from_mask(torch.ones(2, 2, dtype=torch.bool, device=device), 64)
    values = torch.zeros(4, 64, 64, device=device, dtype=dtype)
    x = torch.zeros(rows, 128, device=device, dtype=dtype)
    q = torch.zeros(1, rows, 2, 64, device=device, dtype=dtype)
    w = (values, pattern)
    layer = tk.BlockSparseLinear(128, 128, 64, density=1.0, device=device, dtype=dtype, bias=False)
    dense = torch.zeros(128, 128, device=device, dtype=dtype)
    trained = values.clone().requires_grad_()
    calls = {
        "torch.nn.functional.linear": lambda: torch.nn.functional.linear(x, dense),
        "torch.empty": lambda: torch.empty((rows, 128), dtype=dtype, device=x.device),
        "sparse_linear": lambda: tk.sparse_linear(x, w),
        "BlockSparseLinear": lambda: layer(x),
        "attention": lambda: tk.attention(q, q, q),
        "operator sparse_linear": lambda: torch.ops.triage.sparse_linear(x, values, None, pattern.crow_indices,
                                                                           pattern.col_indices, 128, "none"),
        "sparse_linear, recording gradients": lambda: tk.sparse_linear(x, (trained, pattern)),
    }
    with torch.inference_mode(False):
        for name, call in calls.items():
            if name == "sparse_linear, recording gradients":
                print(f"{name:40} {best(call, between=between):6.2f}")
                continue
            with torch.no_grad():
                call()
                print(f"{name:40} {best(call, between=between):6.2f}")
    y, o = torch.zeros(rows, 128, device=device, dtype=dtype), torch.zeros_like(q)
    c_calls = {
        "sparse_linear": lambda: _calls.linear(_torch_arrays, pattern, values, x, None, y, "none"),
        "attention": lambda: _calls.attention_forward(_torch_arrays, q, q, q, o, None, _calls.AttentionOptions()),
    }
    for name, call in c_calls.items():
        print(f"{'the C call of ' + name:40} {best(c_call(call), between=between):6.2f}")


if __name__ == "__main__":
    main()
