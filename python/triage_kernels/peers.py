"""Peers of attention that a PyTorch user has, beside Triage's kernels: torch's SDPA (flash, cuDNN), FA2, FA3 and FA4;
with block-sparse masks FlexAttention, FA4 and cuDNN's frontend (block_sparse_peers.py).

    python3 -m triage_kernels.peers --table                            # the usual shapes, through triage_kernels
    python3 -m triage_kernels.peers --backward --table                 # the gradients, by autograd
    python3 -m triage_kernels.peers --block-sparse --table             # block-sparse masks; --backward as well
    python3 -m triage_kernels.peers --triage build/triage > peers.json # `triage verdict`'s cases, peers added to each
    python3 -m triage_kernels.peers --json verdict.json --table        # the same from what it printed before

Triage itself takes part in the same rounds where the Python package `triage_kernels` is found (PYTHONPATH;
TRIAGE_LIBRARY names its library): `triage` is the kernel it chooses, `triage_sm80` its kernel for every GPU. Only these
figures compare to within a percent: the verdict's own are of another minute and another clock. A peer that is not
installed or refuses a case is named under `not_measured`, with its reason. `--wheels <folder>` makes wheels usable
without installing them.

A sample is one call between two CUDA events, after other memory has been read until L2 holds nothing of the operands;
the functions take turns, and the median counts. All of each result is checked: row by row against softmax in fp32 on
the GPU. The error of a row (norm over norm) is below one rounding (2^-8 in bfloat16, 2^-11 in float16) for results
whose weights were rounded to the type; 3 are accepted. The operands are contiguous [batch, sequence, heads, head_dim].
The yardstick, torch.matmul of fp16 8192^3, stands first and last. Only cases whose meaning every peer shares are timed:
dense or causal, one length, GQA or not, no softcap, no sinks, no pages, no window; or a block-sparse mask alone, whose
random numbers are this script's. Rates with a mask count the attended blocks.
"""

import argparse
import atexit
import glob
import importlib
import importlib.util
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from inspect import signature

from triage_kernels import block_sparse_peers

FLUSH_BYTES = 512 << 20  # beyond every L2


def medians(torch, calls, rounds, flush):
    """Milliseconds of one call of each function, from the memory's cold state."""
    samples = {name: [] for name in calls}
    for index in range(rounds + 2):
        for name, call in calls.items():
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            flush.sum()
            flush.sum()  # once for L2, twice for peers that need longer on the host before they launch
            begin.record()
            call()
            end.record()
            if index >= 2:
                samples[name].append((begin, end))
        torch.cuda.synchronize()
    return {name: statistics.median(begin.elapsed_time(end) for begin, end in events)
            for name, events in samples.items()}


def version_of(package):
    from importlib import metadata
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def sdpa(backend_name):
    """torch's scaled_dot_product_attention with one backend. It aligns causal masks at the top left."""
    def build(torch, q, k, v, shape):
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.nn.functional import scaled_dot_product_attention
        if shape["causal"] and shape["seqlen_q"] != shape["seqlen_k"]:
            raise RuntimeError("SDPA aligns the causal mask at the top left")
        qt, kt, vt = (x.transpose(1, 2) for x in (q, k, v))
        gqa = {"enable_gqa": True} if shape["heads"] != shape["kv_heads"] else {}

        def run():
            with sdpa_kernel(getattr(SDPBackend, backend_name)):
                return scaled_dot_product_attention(qt, kt, vt, is_causal=shape["causal"], **gqa)
        return run, lambda: run().transpose(1, 2), torch.__version__
    return build


def flash_attention(module_names, function_name, package):
    """A function of the flash-attn family, out of the first of these modules that is installed."""
    def build(torch, q, k, v, shape):
        installed = [name for name in module_names if importlib.util.find_spec(name.split(".")[0])]
        if not installed:
            raise RuntimeError(f"{' or '.join(module_names)} is not installed")
        function = getattr(importlib.import_module(installed[0]), function_name)
        # FA3 divides the keys of a decoding step only if it is told to choose (0).
        splits = {"num_splits": 0} if shape["seqlen_q"] <= 64 and "num_splits" in signature(function).parameters else {}

        def run():
            return function(q, k, v, causal=shape["causal"], **splits)

        def result():
            out = run()
            return out[0] if isinstance(out, tuple) else out
        return run, result, version_of(package)
    return build


def triage(kernel):
    """Triage through its Python package, as it chooses (kernel "") or with one of its kernels."""
    def build(torch, q, k, v, shape):
        import triage_kernels
        pattern = None
        if shape.get("block"):
            pattern = triage_kernels.AttentionPattern.from_mask(shape["mask"], shape["seqlen_q"], shape["seqlen_k"],
                                                                shape["block"])

        def run():
            os.environ["TRIAGE_FORCE_KERNEL"] = kernel  # the library reads it at every call; empty: its own choice
            try:
                if pattern is not None:
                    return triage_kernels.block_sparse_attention(q, k, v, pattern)
                return triage_kernels.attention(q, k, v, causal=shape["causal"])
            finally:
                os.environ.pop("TRIAGE_FORCE_KERNEL", None)
        return run, run, triage_kernels.library_version()
    return build


OURS = {"triage": triage(""), "triage_sm80": triage("sm80_attention_forward")}
PEERS = {
    "torch_sdpa_flash": sdpa("FLASH_ATTENTION"),
    "torch_sdpa_cudnn": sdpa("CUDNN_ATTENTION"),
    "fa2": flash_attention(["flash_attn"], "flash_attn_func", "flash-attn"),
    "fa3": flash_attention(["fa3_fwd_interface", "flash_attn_interface"], "flash_attn_func", "fa3-fwd"),
    "fa4": flash_attention(["flash_attn.cute"], "flash_attn_func", "flash-attn-4"),
}


def use_wheels(folder):
    """Makes the wheels of a folder importable. A wheel is an archive that can be used as it is unpacked."""
    place = tempfile.mkdtemp(prefix="wheels-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    for path in sorted(glob.glob(os.path.join(folder, "*.whl"))):
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(place)
    sys.path.append(place)
    importlib.invalidate_caches()


def usual_cases(op, block_sparse):
    """The cases of `triage verdict` that peers share, for a run without it."""
    def case(name, dtype, batch, heads, kv_heads, seqlen_q, seqlen_k, head_dim, causal, **mask):
        return {"op": op, "kernel": "-", "dtype": dtype, "shape": {
            "name": name, "batch": batch, "heads": heads, "kv_heads": kv_heads, "seqlen_q": seqlen_q,
            "seqlen_k": seqlen_k, "head_dim": head_dim, "causal": causal, **mask}}

    if block_sparse:
        masks = [(128, "uniform", density) for density in (0.25, 0.1, 0.05)]
        masks += [(128, kind, 0.1) for kind in ("window_and_full_rows", "power_law")]
        masks += [(64, kind, density) for _, kind, density in masks]
        return [case("block-sparse", "bfloat16", 1, 2048 // head_dim, 2048 // head_dim, 16384, 16384, head_dim, False,
                     block=block, pattern=kind, density=density)
                for head_dim in (128, 64) for block, kind, density in masks if head_dim == 128 or kind == "uniform"]
    cases = [case("prefill", "bfloat16", 16384 // seqlen, 2048 // head_dim, 2048 // head_dim, seqlen, seqlen, head_dim,
                  causal)
             for head_dim in (128, 64, 256) for seqlen in (512, 1024, 2048, 4096, 8192, 16384)
             for causal in (False, True)]
    if op == "attention.backward":
        return cases
    cases += [case("decode", "bfloat16", batch, 32, 4, 1, cache, 128, False)
              for batch, cache in ((1, 8192), (1, 32768), (1, 131072), (16, 8192), (16, 32768), (64, 8192))]
    return cases


def shared_by_all(shape):
    plain = ["window_left", "window_right", "softcap", "sinks", "varlen", "page_size"]
    plain += ["causal"] if shape.get("block") else []
    return not any(shape.get(name) for name in plain)


def attended_pairs(shape):
    """Of a head, on the average."""
    if shape.get("block"):
        return int(shape["mask"].sum()) * shape["block"] ** 2 / shape["heads"]
    if not shape["causal"]:
        return shape["seqlen_q"] * shape["seqlen_k"]
    if shape["seqlen_q"] == shape["seqlen_k"]:
        return shape["seqlen_q"] ** 2 / 2
    shift = shape["seqlen_k"] - shape["seqlen_q"]
    return sum(max(0, i + shift + 1) for i in range(shape["seqlen_q"]))


def reference(torch, q, k, v, d_o, shape):
    """The definition in fp32, of everything: [O], with d_o [d_q, d_k, d_v]; logits of a few rows at a time."""
    group, seqlen_q, seqlen_k = shape["heads"] // shape["kv_heads"], shape["seqlen_q"], shape["seqlen_k"]
    scale = 1 / math.sqrt(shape["head_dim"])
    out = torch.empty(*q.shape[:-1], (q if d_o is not None else v).shape[-1], device=q.device, dtype=torch.float32)
    d_k, d_v = (torch.zeros(x.shape, device=q.device, dtype=torch.float32) for x in (k, v))
    rows = max(1, (1 << 28) // (shape["heads"] * seqlen_k))
    position = torch.arange(seqlen_k, device=q.device)

    def pack(x):  # query heads that share a head of K become rows beside each other: [kv_heads, rows * group, head_dim]
        return x.unflatten(1, (-1, group)).transpose(0, 1).flatten(1, 2)

    def unpack(x):
        return x.unflatten(1, (-1, group)).transpose(0, 1).flatten(1, 2)

    for b in range(shape["batch"]):
        keys, values = k[b].float().transpose(0, 1), v[b].float().transpose(0, 1)
        for first in range(0, seqlen_q, rows):
            last = min(first + rows, seqlen_q)
            queries = pack(q[b, first:last].float())
            weights = queries @ keys.transpose(1, 2) * scale
            if shape["causal"]:
                diagonal = torch.arange(first, last, device=q.device).repeat_interleave(group) + seqlen_k - seqlen_q
                weights.masked_fill_(position[None, :] > diagonal[:, None], float("-inf"))
            if shape.get("block"):
                block_rows = torch.arange(first, last, device=q.device) // shape["block"]
                attended = shape["mask"][0, :, block_rows].transpose(0, 1)[..., position // shape["block"]]
                weights.masked_fill_(~pack(attended), float("-inf"))
            weights = torch.softmax(weights, -1).nan_to_num_(0)
            if d_o is None:
                out[b, first:last] = unpack(weights @ values)
                continue
            d_out = pack(d_o[b, first:last].float())
            d_v[b] += (weights.transpose(1, 2) @ d_out).transpose(0, 1)
            d_s = d_out @ values.transpose(1, 2)
            d_s = weights * (d_s - (weights * d_s).sum(-1, keepdim=True)) * scale
            out[b, first:last] = unpack(d_s @ keys)
            d_k[b] += (d_s.transpose(1, 2) @ queries).transpose(0, 1)
    return [out] if d_o is None else [out, d_k, d_v]


def backward_of(torch, build, q, k, v, d_o, shape):
    """The same function's gradients by autograd, without the forward."""
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    _, result, version = build(torch, *leaves, shape)
    out = result()

    def run():
        return torch.autograd.grad(out, leaves, d_o, retain_graph=True)
    return run, run, version


def worst_error(torch, results, right, backward):
    """The largest relative error of a row, in roundings of the type. Of gradients: of a head's matrix, because there
    are rows whose gradient is next to nothing (a query with one key has none)."""
    worst, dims = 0.0, (1, 3) if backward else (3,)
    for result, want in zip(results, right):
        if result.shape != want.shape:
            raise RuntimeError(f"its result has the shape {list(result.shape)}")
        error = (result.float() - want).norm(dim=dims) / want.norm(dim=dims).clamp_min(1e-20)
        worst = max(worst, error.max().item() * (2.0**8 if result.dtype == torch.bfloat16 else 2.0**11))
    return worst


def measure(torch, case, rounds, flush):
    """{"peers": [...], "not_measured": [...]} of a case's shape."""
    shape, found = case["shape"], {"peers": [], "not_measured": []}
    if not shared_by_all(shape):
        found["not_measured"].append({"name": "peers", "reason": "not every peer has its options"})
        return found
    peers = PEERS
    if shape.get("block"):
        peers = block_sparse_peers.PEERS
        shape = {**shape, "mask": block_sparse_peers.random_mask(torch, shape, "cuda")}
    backward = case["op"] == "attention.backward"
    dtype = getattr(torch, case["dtype"])
    head_dim_v = shape.get("head_dim_v", shape["head_dim"])

    def random(length, heads, dim):
        return torch.randn(shape["batch"], length, heads, dim, device="cuda", dtype=dtype)

    q = random(shape["seqlen_q"], shape["heads"], shape["head_dim"])
    k = random(shape["seqlen_k"], shape["kv_heads"], shape["head_dim"])
    v = random(shape["seqlen_k"], shape["kv_heads"], head_dim_v)
    d_o = random(shape["seqlen_q"], shape["heads"], head_dim_v) if backward else None
    right = reference(torch, q, k, v, d_o, shape)
    calls, notes = {}, {}
    for name, build in {**OURS, **peers}.items():
        try:
            if not backward:
                run, result, version = build(torch, q, k, v, shape)
            elif name == "triage_sm80":
                raise RuntimeError("autograd has no way to ask for a kernel of the backward")
            elif shape.get("block") and name in block_sparse_peers.BACKWARD:
                run, result, version = block_sparse_peers.BACKWARD[name](torch, q, k, v, d_o, shape)
            else:
                run, result, version = backward_of(torch, build, q, k, v, d_o, shape)
            results = result()
            worst = worst_error(torch, results if backward else [results], right, backward)
            if not worst < 3:
                raise RuntimeError(f"its result differs from the definition's by {worst:.2g} roundings")
            calls[name] = run
            notes[name] = {"version": version, "worst_roundings": round(worst, 3)}
        except Exception as error:  # not installed, or it refuses the shape
            reason = str(error).strip().splitlines()
            found["not_measured"].append(
                {"name": name, "reason": reason[0][:200] if reason else type(error).__name__})
    del right
    operations = 2 * attended_pairs(shape) * shape["batch"] * shape["heads"] * (shape["head_dim"] + head_dim_v)
    operations *= 2.5 if backward else 1
    loaded = 2 * shape["batch"] * shape["kv_heads"] * shape["seqlen_k"] * (shape["head_dim"] + head_dim_v)
    for name, milliseconds in (medians(torch, calls, rounds, flush) if calls else {}).items():
        found["peers"].append({"name": name, "time_ms": milliseconds, "tflops": operations / milliseconds / 1e9,
                               "kv_gbytes_per_s": loaded / milliseconds / 1e6, **notes[name],
                               "note": "timed by torch, in turns"})
    return found


def yardstick(torch, flush):
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)
    return 2 * 8192**3 / medians(torch, {"matmul": lambda: a @ a}, 5, flush)["matmul"] / 1e9


def print_table(cases):
    def beside(case):  # what this script measured, without the verdict's own peers
        return [peer for peer in case.get("triage_peers", []) + case.get("peers", []) if "worst_roundings" in peer]

    measured = {peer["name"] for case in cases for peer in beside(case)}
    names = [name for name in dict.fromkeys((*OURS, *PEERS, *block_sparse_peers.PEERS)) if name in measured]
    columns = ["case", "dtype", "unit", *names, "triage over best peer", "triage_sm80 over torch_sdpa_flash"]
    print("| " + " | ".join(columns) + " |")
    print("| --- | --- | --- | " + " | ".join("---:" for _ in names) + " | ---: | ---: |")
    ratios, of_sm80, seen = [], [], set()
    for case in cases:
        shape = case["shape"]
        label = f"{shape['name']} d{shape['head_dim']} b{shape['batch']} q{shape['seqlen_q']} k{shape['seqlen_k']}"
        label += " causal" if shape["causal"] else ""
        if shape.get("block"):
            label += f" blocks of {shape['block']}, {shape['density']} {shape.get('pattern', '')}"
        if not beside(case) or (label, case["dtype"]) in seen:
            continue
        seen.add((label, case["dtype"]))
        unit, digits = ("tflops", "TF/s") if shape["seqlen_q"] > 64 else ("kv_gbytes_per_s", "GB/s")
        rates = {peer["name"]: peer[unit] for peer in beside(case)}
        best = max((rate for name, rate in rates.items() if name not in OURS), default=0)
        last = ["-", "-"]
        if best and "triage" in rates:
            ratios.append(rates["triage"] / best)
            last[0] = f"{ratios[-1]:.3f}"
        if "triage_sm80" in rates and "torch_sdpa_flash" in rates:
            of_sm80.append(rates["triage_sm80"] / rates["torch_sdpa_flash"])
            last[1] = f"{of_sm80[-1]:.3f}"
        cells = [f"{rates[name]:.0f}" if name in rates else "-" for name in names]
        print(f"| {label} | {case['dtype']} | {digits} | {' | '.join(cells)} | {' | '.join(last)} |")
    for name, values in (("triage over its best peer", ratios), ("triage_sm80 over torch_sdpa_flash", of_sm80)):
        if values:
            mean = math.exp(sum(map(math.log, values)) / len(values))
            print(f"\n{name}: geometric mean {mean:.3f}, least {min(values):.3f}, over {len(values)} cases.")


def read_cases(arguments, op):
    """What the verdict printed, or the same frame with the usual cases."""
    if arguments.json:
        with open(arguments.json) as file:
            return json.load(file)
    if not arguments.triage:
        return {"cases": usual_cases(op, arguments.block_sparse)}
    command = [arguments.triage, "verdict", "--device", "cuda", "--op", op, "--only", "timing"]
    command += ["--json"]
    shape = arguments.shape or ("block-sparse" if arguments.block_sparse else "")
    command += ["--shape", shape] if shape else []
    command += ["--kernel", arguments.kernel] if arguments.kernel else []
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if not finished.stdout.strip():
        sys.exit(f"peers: {' '.join(command)} ended with {finished.returncode} and printed nothing")
    return json.loads(finished.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--triage", help="the program: its verdict's cases, which it is run for first")
    source.add_argument("--json", help="what `triage verdict --op attention.forward --json` printed (or backward)")
    parser.add_argument("--shape", help="passed on to the program: part of a case's name")
    parser.add_argument("--kernel", help="passed on to the program")
    parser.add_argument("--backward", action="store_true", help="the gradients: attention.backward")
    parser.add_argument("--block-sparse", action="store_true", help="the usual block-sparse masks instead of dense ones")
    parser.add_argument("--wheels", help="a folder of wheels to use without installing them")
    parser.add_argument("--rounds", type=int, default=9, help="samples of each function")
    parser.add_argument("--seconds", type=float, default=math.inf, help="later cases are left out, and named")
    parser.add_argument("--table", action="store_true", help="a table instead of JSON")
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        import torch
    except ImportError:
        sys.exit("peers: torch is not installed")
    if not torch.cuda.is_available():
        sys.exit("peers: torch sees no CUDA device")
    if arguments.wheels:
        use_wheels(arguments.wheels)
    torch.backends.cuda.matmul.allow_tf32 = False  # of the reference
    op = "attention.backward" if arguments.backward else "attention.forward"
    verdict = read_cases(arguments, op)
    flush = torch.zeros(FLUSH_BYTES // 4, device="cuda")
    first = yardstick(torch, flush)
    done, cases = {}, [case for case in verdict["cases"]
                       if case["op"] == op and case["dtype"] in ("float16", "bfloat16")]
    for case in cases:
        key = json.dumps([case["dtype"], case["shape"]], sort_keys=True)
        if key not in done:  # several kernels may have the same case
            if time.monotonic() - started > arguments.seconds:
                found = {"peers": [], "not_measured": [{"name": "peers", "reason": "no time was left (--seconds)"}]}
            else:
                try:
                    found = measure(torch, case, arguments.rounds, flush)
                except torch.cuda.OutOfMemoryError as error:
                    found = {"peers": [], "not_measured": [{"name": "peers", "reason": str(error).splitlines()[0]}]}
            done[key] = found
        for name, entries in done[key].items():  # our own figures apart: readers of the JSON take `peers` for others
            case[name] = case.get(name, []) + [entry for entry in entries if entry["name"] not in OURS]
            case["triage_" + name] = [entry for entry in entries if entry["name"] in OURS]
    verdict["torch_matmul_fp16_tflops"] = [round(first, 1), round(yardstick(torch, flush), 1)]
    verdict["peers_seconds"] = round(time.monotonic() - started, 1)
    if arguments.table:
        print_table(cases)
        left_out = sum("--seconds" in entry["reason"] for found in done.values() for entry in found["not_measured"])
        print(f"torch.matmul fp16 8192^3: {verdict['torch_matmul_fp16_tflops']} TF/s, first and last. "
              f"{verdict['peers_seconds']} s, {left_out} shapes left out for lack of time.")
        reasons = {(entry["name"], entry["reason"]) for found in done.values() for entry in found["not_measured"]}
        for name, reason in sorted(reasons):
            print(f"not measured: {name}: {reason}")
    else:
        json.dump(verdict, sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    main()
