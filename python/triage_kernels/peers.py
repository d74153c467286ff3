"""Peers of attention that a PyTorch user has, on the verdict's cases: torch's SDPA (flash, cuDNN), FA2, FA3 and FA4.

Runs `triage verdict --op attention.forward --json` (with `--backward`: attention.backward) in the same session and on the
same GPU (or reads what it printed before), times each peer that is installed on the same shapes, and prints the same
JSON with them added to `peers` of each case; a peer that is not installed or refuses a case is named under
`not_measured`, with its reason.

    python3 bench/attention_peers.py --triage build/triage > attention_with_peers.json
    python3 bench/attention_peers.py --triage build/triage --backward --table
    python3 bench/attention_peers.py --json verdict.json --table        # a table to read instead of JSON

Times are medians of CUDA-event timings; the operands are contiguous [batch, sequence, heads, head_dim] as ours. Peers run
right after one another, after our own run: between the two the clocks may differ by some percent, so every case is repeated
in rounds and the yardstick (torch.matmul, fp16, 8192^3) is printed with the first and the last. Only cases whose meaning
every peer shares are timed: dense or causal, one length, GQA or not, no softcap, no sinks, no pages, no window.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys


def medians(torch, calls, rounds=7, sample_ms=20.0):
    """Milliseconds a call of each function, one sample of each a round."""
    def sample(call, repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / repeats

    repeats = {}
    for name, call in calls.items():
        call()
        torch.cuda.synchronize()
        repeats[name] = max(1, min(200, int(sample_ms / max(sample(call, 3), 1e-3))))
    samples = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            samples[name].append(sample(call, repeats[name]))
    return {name: statistics.median(values) for name, values in samples.items()}


def version_of(package):
    from importlib import metadata
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def sdpa(backend_name):
    """torch's scaled_dot_product_attention with one backend; causal only where both lengths agree (torch aligns top left)."""
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
        import importlib
        import importlib.util
        installed = [name for name in module_names if importlib.util.find_spec(name.split(".")[0])]
        if not installed:
            raise RuntimeError(f"{' or '.join(module_names)} is not installed")
        function = getattr(importlib.import_module(installed[0]), function_name)

        def run():
            return function(q, k, v, causal=shape["causal"])

        def result():
            out = run()
            return out[0] if isinstance(out, tuple) else out
        return run, result, version_of(package)
    return build


PEERS = {
    "torch_sdpa_flash": sdpa("FLASH_ATTENTION"),
    "torch_sdpa_cudnn": sdpa("CUDNN_ATTENTION"),
    "fa2": flash_attention(["flash_attn"], "flash_attn_func", "flash-attn"),
    "fa3": flash_attention(["fa3_fwd_interface", "flash_attn_interface"], "flash_attn_func", "fa3-fwd"),
    "fa4": flash_attention(["flash_attn.cute"], "flash_attn_func", "flash-attn-4"),
}


def shared_by_all(shape):
    plain = ("window_left", "window_right", "softcap", "sinks", "varlen", "page_size")
    return not any(shape.get(name) for name in plain)


def reference_weights(torch, q, k, shape):
    """P of a few queries of the first head in float64, to see that a peer computes the same thing."""
    rows = torch.arange(0, shape["seqlen_q"], max(1, shape["seqlen_q"] // 8), device="cuda")
    logits = torch.einsum("hd,jd->hj", q[0, rows, 0].double(), k[0, :, 0].double()) / math.sqrt(shape["head_dim"])
    if shape["causal"]:
        position = torch.arange(shape["seqlen_k"], device="cuda")
        hidden = position[None, :] > rows[:, None] + shape["seqlen_k"] - shape["seqlen_q"]
        logits = logits.masked_fill(hidden, float("-inf"))
    return rows, logits.softmax(-1)


def backward_of(torch, build, q, k, v, d_o, shape):
    """The same peer's gradients by autograd: a call that computes d_q, d_k and d_v alone, and its d_q."""
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    _, result, version = build(torch, *leaves, shape)
    out = result()

    def run():
        return torch.autograd.grad(out, leaves, d_o, retain_graph=True)
    return run, lambda: run()[0], version


def reference_d_q(torch, q, k, v, d_o, shape):
    """d_q of a few queries in float64: dS K, dS = P * (dP - rowsum(P * dP))."""
    rows, weights = reference_weights(torch, q, k, shape)
    d_p = d_o[0, rows, 0].double() @ v[0, :, 0].double().T
    d_s = weights * (d_p - (weights * d_p).sum(-1, keepdim=True))
    return rows, d_s @ k[0, :, 0].double() / math.sqrt(shape["head_dim"])


def add_peers(torch, case):
    shape = case["shape"]
    backward = case["op"] == "attention.backward"
    if not shared_by_all(shape):
        case.setdefault("not_measured", []).append({"name": "peers", "reason": "a case whose options not every peer has"})
        return
    dtype = getattr(torch, case["dtype"])
    head_dim_v = shape.get("head_dim_v", shape["head_dim"])

    def random(length, heads, dim):
        return torch.randn(shape["batch"], length, heads, dim, device="cuda", dtype=dtype)

    q = random(shape["seqlen_q"], shape["heads"], shape["head_dim"])
    k = random(shape["seqlen_k"], shape["kv_heads"], shape["head_dim"])
    v = random(shape["seqlen_k"], shape["kv_heads"], head_dim_v)
    d_o = random(shape["seqlen_q"], shape["heads"], head_dim_v)
    if backward:
        rows, right = reference_d_q(torch, q, k, v, d_o, shape)
    else:
        rows, weights = reference_weights(torch, q, k, shape)
        right = weights @ v[0, :, 0].double()
    calls, versions = {}, {}
    for name, build in PEERS.items():
        try:
            if backward:
                run, result, versions[name] = backward_of(torch, build, q, k, v, d_o, shape)
            else:
                run, result, versions[name] = build(torch, q, k, v, shape)
            difference = (result()[0, rows, 0].double() - right).abs().max().item() / right.abs().max().item()
            if not difference < 2e-2:
                raise RuntimeError(f"its result differs from the definition's by {difference:.2g}")
            calls[name] = run
        except Exception as error:  # not installed, or it refuses the shape
            reason = str(error).strip().splitlines()
            case.setdefault("not_measured", []).append({"name": name, "reason": reason[0][:200] if reason else type(error).__name__})
    operations = case["tflops"] * case["time_ms"]["median"] * 1e9
    for name, milliseconds in (medians(torch, calls) if calls else {}).items():
        case.setdefault("peers", []).append({"name": name, "version": versions[name], "time_ms": milliseconds,
                                             "tflops": operations / milliseconds / 1e9, "note": "timed by torch, beside"})


def yardstick(torch):
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)
    milliseconds = medians(torch, {"matmul": lambda: a @ a})["matmul"]
    return 2 * 8192**3 / milliseconds / 1e9


def print_table(cases):
    names = list(PEERS)
    print("| case | dtype | kernel | ours TF/s | " + " | ".join(names) + " | best of ours over best peer |")
    print("| --- | --- | --- | --- | " + " | ".join("---" for _ in names) + " | --- |")
    ratios = []
    for case in cases:
        if not case.get("time_ms"):
            continue
        shape = case["shape"]
        label = f"{shape['name']} d{shape['head_dim']} b{shape['batch']} q{shape['seqlen_q']} k{shape['seqlen_k']}"
        label += " causal" if shape["causal"] else ""
        rates = {peer["name"]: peer["tflops"] for peer in case.get("peers", [])}
        best = max(rates.values(), default=0)
        cells = [f"{rates[name]:.0f}" if name in rates else "-" for name in names]
        if best:
            ratios.append(case["tflops"] / best)
        last = f"{ratios[-1]:.2f}" if best else "-"
        print(f"| {label} | {case['dtype']} | {case['kernel']} | {case['tflops']:.0f} | {' | '.join(cells)} | {last} |")
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"\nGeometric mean {mean:.3f}, least {min(ratios):.3f}, over {len(ratios)} cases.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--triage", help="the program: it is run first, with --json")
    source.add_argument("--json", help="what `triage verdict --op attention.forward --json` (or attention.backward) printed")
    parser.add_argument("--shape", help="passed on to the program: part of a case's name")
    parser.add_argument("--kernel", help="passed on to the program")
    parser.add_argument("--backward", action="store_true", help="the cases of attention.backward")
    parser.add_argument("--table", action="store_true", help="a table instead of JSON")
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("attention_peers.py: torch is not installed")
    if not torch.cuda.is_available():
        sys.exit("attention_peers.py: torch sees no CUDA device")
    op = "attention.backward" if arguments.backward else "attention.forward"
    if arguments.triage:
        command = [arguments.triage, "verdict", "--device", "cuda", "--op", op, "--only", "timing", "--json"]
        command += ["--shape", arguments.shape] if arguments.shape else []
        command += ["--kernel", arguments.kernel] if arguments.kernel else []
        finished = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if not finished.stdout.strip():
            sys.exit(f"attention_peers.py: {' '.join(command)} ended with {finished.returncode} and printed nothing")
        verdict = json.loads(finished.stdout)
    else:
        with open(arguments.json) as file:
            verdict = json.load(file)
    first = yardstick(torch)
    cases = [case for case in verdict["cases"] if case["op"] == op and case.get("time_ms")]
    for case in cases:
        try:
            add_peers(torch, case)
        except torch.cuda.OutOfMemoryError as error:
            case.setdefault("not_measured", []).append({"name": "peers", "reason": str(error).splitlines()[0]})
        torch.cuda.empty_cache()
    verdict["torch_matmul_fp16_tflops"] = [round(first, 1), round(yardstick(torch), 1)]
    if arguments.table:
        print_table(cases)
        print(f"torch.matmul fp16 8192^3: {verdict['torch_matmul_fp16_tflops']} TF/s, first and last.")
    else:
        json.dump(verdict, sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    main()
