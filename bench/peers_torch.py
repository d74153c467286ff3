"""Peers that a PyTorch user has: the Triton kernels behind torch.sparse BSR, and TileLang, on the verdict's cases.

Reads what `triage verdict --json` printed (or a receipt) and prints the same JSON with these peers added to `peers` of
each case of `sparse_gemm.spmm`; a peer that is not installed or refuses a case is named under `not_measured`.

    triage verdict --device cuda --op spmm --json > verdict.json
    python3 bench/peers_torch.py verdict.json > verdict_with_torch.json

Times are medians of `triton.testing.do_bench`, on random patterns of the case's density: the uniform kind only.
"""

import json
import sys


def random_bsr(torch, shape, dtype):
    """A uniform random pattern with the case's density, as torch's BSR tensor."""
    block = shape["block"]
    block_rows, block_cols = shape["m"] // block, shape["k"] // block
    mask = torch.rand(block_rows, block_cols, device="cuda") < shape["density"]
    mask[:, 0] |= ~mask.any(1)  # torch's kernels take no empty rows gracefully
    crow = torch.zeros(block_rows + 1, dtype=torch.int32, device="cuda")
    crow[1:] = mask.sum(1).cumsum(0)
    col = mask.nonzero()[:, 1].to(torch.int32)
    values = torch.randn(len(col), block, block, device="cuda", dtype=dtype)
    return torch.sparse_bsr_tensor(crow, col, values, size=(shape["m"], shape["k"]))


def peer(name, version, milliseconds, operations, note):
    return {"name": name, "version": version, "time_ms": milliseconds, "tflops": operations / milliseconds / 1e9,
            "note": note}


def time_torch_bsr(torch, sparse, dense):
    """The faster of torch's two Triton kernels, in milliseconds, and its name."""
    from torch.sparse import _triton_ops
    from triton.testing import do_bench

    out = torch.zeros(sparse.shape[0], dense.shape[1], device="cuda", dtype=dense.dtype)
    candidates = {
        "bsr_dense_mm": lambda: _triton_ops.bsr_dense_mm(sparse, dense),
        "bsr_dense_addmm": lambda: _triton_ops.bsr_dense_addmm(out, sparse, dense, beta=0),
    }
    times = {}
    for name, call in candidates.items():
        try:
            call()
            times[name] = do_bench(call, warmup=10, rep=40, return_mode="median")
        except Exception as error:  # a kernel that refuses this block size
            times[name] = float("inf")
            last_error = error
    name = min(times, key=times.get)
    if times[name] == float("inf"):
        raise last_error
    return times[name], name


def tilelang_kernel(tilelang, shape, nnz_blocks, columns, stages, threads):
    """Walks each block row's list of blocks: one tile of `block` rows by `columns` columns a thread block."""
    import tilelang.language as T

    m, n, k, block = shape["m"], shape["n"], shape["k"], shape["block"]

    @tilelang.jit(out_idx=[-1])
    def build():
        @T.prim_func
        def main(values: T.Tensor((nnz_blocks * block, block), "float16"), crow: T.Tensor((m // block + 1,), "int32"),
                 col: T.Tensor((nnz_blocks,), "int32"), dense: T.Tensor((k, n), "float16"),
                 out: T.Tensor((m, n), "float16")):
            with T.Kernel(T.ceildiv(n, columns), m // block, threads=threads) as (x, y):
                left = T.alloc_shared((block, block), "float16")
                right = T.alloc_shared((block, columns), "float16")
                sums = T.alloc_fragment((block, columns), "float32")
                T.use_swizzle(panel_size=10)
                T.clear(sums)
                for step in T.Pipelined(crow[y + 1] - crow[y], num_stages=stages):
                    T.copy(values[(crow[y] + step) * block, 0], left)
                    T.copy(dense[col[crow[y] + step] * block, x * columns], right)
                    T.gemm(left, right, sums)
                T.copy(sums, out[y * block, x * columns])

        return main

    return build()


def time_tilelang(torch, sparse, dense, shape):
    """The fastest of a small sweep, in milliseconds, and its settings."""
    import tilelang
    from triton.testing import do_bench

    values = sparse.values().reshape(-1, shape["block"]).contiguous()
    crow, col = sparse.crow_indices().to(torch.int32), sparse.col_indices().to(torch.int32)
    best, settings, last_error = float("inf"), "", None
    for columns in (128, 256):
        for stages in (2, 3, 4):
            for threads in (128, 256):
                try:
                    kernel = tilelang_kernel(tilelang, shape, len(col), columns, stages, threads)
                    call = lambda: kernel(values, crow, col, dense)
                    call()
                    milliseconds = do_bench(call, warmup=5, rep=20, return_mode="median")
                except Exception as error:
                    last_error = error
                    continue
                if milliseconds < best:
                    best, settings = milliseconds, f"{columns} columns, {stages} stages, {threads} threads"
    if best == float("inf"):
        raise last_error
    return best, settings


def add_peers(torch, case):
    shape = case["shape"]
    dtype = getattr(torch, case["dtype"])
    sparse = random_bsr(torch, shape, dtype)
    dense = torch.randn(shape["k"], shape["n"], device="cuda", dtype=dtype)
    operations = 2 * sparse.values().numel() * shape["n"]
    missing = case.setdefault("not_measured", [])
    try:
        milliseconds, kernel = time_torch_bsr(torch, sparse, dense)
        case["peers"].append(peer("torch_bsr_triton", torch.__version__, milliseconds, operations, kernel))
    except Exception as error:
        missing.append({"name": "torch_bsr_triton", "reason": str(error).splitlines()[0][:200]})
    try:
        import tilelang

        milliseconds, settings = time_tilelang(torch, sparse, dense, shape)
        case["peers"].append(peer("tilelang", tilelang.__version__, milliseconds, operations, settings))
    except ImportError:
        missing.append({"name": "tilelang", "reason": "not installed: pip install tilelang"})
    except Exception as error:
        missing.append({"name": "tilelang", "reason": str(error).splitlines()[0][:200]})


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: peers_torch.py VERDICT.json")
    try:
        import torch
    except ImportError:
        sys.exit("peers_torch.py: PyTorch is not installed: pip install torch")
    if not torch.cuda.is_available():
        sys.exit("peers_torch.py: PyTorch sees no GPU")
    with open(sys.argv[1]) as file:
        verdict = json.load(file)
    for case in verdict["cases"]:
        if case["op"] != "sparse_gemm.spmm" or case["shape"]["pattern"] != "uniform" or case["family"] == "cpu":
            continue
        print(f"{case['kernel']} {case['shape']['name']}", file=sys.stderr)
        add_peers(torch, case)
    json.dump(verdict, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
