"""The operators on a GPU: right results and gradients in 16 bits, the current stream and device, CUDA graphs,
inductor."""

import time

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
if not torch.cuda.is_available():
    pytest.skip("PyTorch sees no GPU", allow_module_level=True)

import triage_kernels as tk  # noqa: E402

if tk.cuda_device_count() == 0:
    pytest.skip("the library was built without GPU kernels", allow_module_level=True)

from triage_kernels.nn import _dense  # noqa: E402

DTYPES = [torch.float16, torch.bfloat16]


def problem(block=64, rows=256, cols=384, density=0.4, dtype=torch.float16):
    mask = torch.rand(-(-rows // block), -(-cols // block), device="cuda") < density
    mask[0, 0] = True
    pattern = tk.BlockPattern.from_mask(mask, block, (rows, cols))
    values = pattern.gather(torch.randn(rows, cols, device="cuda", dtype=dtype) * cols**-0.5)
    return pattern, values.requires_grad_()


def close(result, right, dtype):
    """Within a few roundings of `dtype`, by the Frobenius norm."""
    error = (result.double() - right.double()).norm() / right.double().norm()
    assert error < (2e-3 if dtype == torch.float16 else 1.5e-2), f"relative error {error:.2g}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", [16, 32, 64, 128])
@pytest.mark.parametrize("activation", ["none", "relu", "gelu", "silu"])
def test_linear(block, dtype, activation):
    pattern, values = problem(block, dtype=dtype)
    x = torch.randn(2, 100, 384, device="cuda", dtype=dtype, requires_grad=True)
    bias = torch.randn(256, device="cuda", dtype=dtype, requires_grad=True)
    y = tk.sparse_linear(x, (values, pattern), bias, activation=activation)
    wide = [tensor.detach().double().requires_grad_() for tensor in (x, values, bias)]
    right = wide[0] @ _dense(wide[1], pattern.crow_indices, pattern.col_indices, 256, 384).T + wide[2]
    right = right if activation == "none" else getattr(torch.nn.functional, activation)(right)
    close(y, right, dtype)
    with torch.no_grad():
        assert torch.equal(tk.sparse_linear(x, (values, pattern), bias, activation=activation), y)
    assert not tk.last_kernel().startswith("cpu")
    direction = torch.randn_like(y)
    for gradient, expected in zip(torch.autograd.grad(y, (x, values, bias), direction),
                                  torch.autograd.grad(right, wide, direction.double())):
        close(gradient, expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_spmm_and_sddmm(dtype):
    pattern, values = problem(dtype=dtype)
    b = torch.randn(384, 96, device="cuda", dtype=dtype, requires_grad=True)
    c = torch.randn(256, 96, device="cuda", dtype=dtype, requires_grad=True)
    y = tk.spmm((values, pattern), b, c=c, alpha=0.5, beta=2.0)
    wide = [tensor.detach().double().requires_grad_() for tensor in (values, b, c)]
    right = 0.5 * (_dense(wide[0], pattern.crow_indices, pattern.col_indices, 256, 384) @ wide[1]) + 2.0 * wide[2]
    close(y, right, dtype)
    direction = torch.randn_like(y)
    for gradient, expected in zip(torch.autograd.grad(y, (values, b, c), direction),
                                  torch.autograd.grad(right, wide, direction.double())):
        close(gradient, expected, dtype)
    x, y = (torch.randn(n, 128, device="cuda", dtype=dtype) for n in (256, 384))
    close(tk.sddmm(x, y, pattern), pattern.gather((x.double() @ y.double().T)), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": (64, 0)}, {"softcap": 5.0}, {"sinks": True},
                                     {"deterministic": True}, {"causal": True, "deterministic": True}],
                         ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("head_dim", [64, 128])
def test_attention(dtype, options, head_dim):
    from test_attention import meaning
    options = dict(options)
    q, k, v = (torch.randn(2, 200, heads, head_dim, device="cuda", dtype=dtype, requires_grad=True)
               for heads in (8, 2, 2))
    wanted = [q, k, v]
    if "sinks" in options:
        options["sinks"] = torch.randn(8, device="cuda", requires_grad=True)
        wanted.append(options["sinks"])
    o, lse = tk.attention(q, k, v, return_lse=True, **options)
    wide = [tensor.detach().double().requires_grad_() for tensor in wanted]
    named = {name: value for name, value in options.items() if name != "deterministic"}
    if "sinks" in named:
        named["sinks"] = wide[3]
    with torch.device("cuda"):
        right, right_lse = meaning(*wide[:3], **named)
    close(o, right, dtype)
    close(lse, right_lse, torch.float16)
    direction = torch.randn_like(o)
    for gradient, expected in zip(torch.autograd.grad(o, wanted, direction),
                                  torch.autograd.grad(right, wide, direction.double())):
        close(gradient, expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": (150, 20)}, {"softcap": 5.0}, {"sinks": True},
                                     {"elements": True, "causal": True}, {"deterministic": True}],
                         ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("block", [(64, 64), (128, 128), (64, 128)], ids=lambda block: f"{block[0]}x{block[1]}")
def test_block_sparse_attention(dtype, options, head_dim, block):
    from attention_definition import attend
    from test_block_sparse_attention import attended, random_blocks, random_elements
    options, length_q, length_k = dict(options), 300, 410
    q, k, v = (torch.randn(2, length, heads, head_dim, device="cuda", dtype=dtype, requires_grad=True)
               for length, heads in ((length_q, 4), (length_k, 2), (length_k, 2)))
    wanted, index, elements = [q, k, v], None, None
    if "sinks" in options:
        options["sinks"] = torch.randn(4, device="cuda", requires_grad=True)
        wanted.append(options["sinks"])
    with torch.device("cuda"):
        blocks = random_blocks(2, 2, block, length_q, length_k)
        pattern = tk.AttentionPattern.from_mask(blocks, length_q, length_k, block)
        assert torch.equal(pattern.mask(), blocks)
        if options.pop("elements", False):
            index, elements = random_elements(blocks, block)
            pattern.set_elements(index, elements)
        interval = {name: options[name] for name in ("causal", "window") if name in options}
        seen = attended(blocks, block, length_q, length_k, index=index, elements=elements, **interval)
        wide = [tensor.detach().double().requires_grad_() for tensor in wanted]
        named = {"sinks": wide[3]} if "sinks" in options else {}
        right, right_lse = attend(*wide[:3], seen, softcap=options.get("softcap", 0.0), **named)
    o, lse = tk.block_sparse_attention(q, k, v, pattern, return_lse=True, **options)
    assert tk.last_kernel().startswith("sm")
    close(o, right, dtype)
    empty = right_lse.isinf()
    assert torch.equal(lse.isinf(), empty)
    close(lse[~empty], right_lse[~empty], torch.float16)
    direction = torch.randn_like(o)
    for gradient, expected in zip(torch.autograd.grad(o, wanted, direction),
                                  torch.autograd.grad(right, wide, direction.double())):
        close(gradient, expected.nan_to_num(0.0), dtype)


def random_mask(blocks=8):
    return (torch.rand(1, 4, blocks, blocks, device="cuda") < 0.4) | torch.eye(blocks, device="cuda", dtype=torch.bool)


def test_attention_pattern_in_a_cuda_graph():
    """Masks are chosen, put into the pattern and attended by one graph."""
    q = torch.randn(1, 512, 4, 64, device="cuda", dtype=torch.float16)
    scores = torch.randn(1, 4, 8, 8, device="cuda")
    pattern = tk.AttentionPattern.from_topk(scores.topk(3).indices, 512, 512)

    def step():
        pattern.update_topk(scores.topk(3).indices)
        return tk.block_sparse_attention(q, q, q, pattern)
    for _ in range(2):
        step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        o = step()
    for _ in range(2):
        scores.normal_()
        graph.replay()
        fresh = tk.AttentionPattern.from_topk(scores.topk(3).indices, 512, 512)
        assert torch.equal(pattern.mask(), fresh.mask())
        assert torch.equal(o, tk.block_sparse_attention(q, q, q, fresh))


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_inductor_and_attention_patterns(mode):
    pattern = tk.AttentionPattern.from_mask(random_mask(), 512, 512)
    compiled = torch.compile(lambda q, pattern: tk.block_sparse_attention(q, q * 0.5, q + 1, pattern), fullgraph=True,
                             mode=mode)
    for _ in range(4):
        q = torch.randn(1, 512, 4, 64, device="cuda", dtype=torch.float16)
        right = tk.block_sparse_attention(q, q * 0.5, q + 1, pattern)
        close(compiled(q, pattern), right, torch.float16)
        pattern.update_mask(random_mask())  # needs neither another compilation nor another graph


def test_flex_attention_block_mask():
    flex = pytest.importorskip("torch.nn.attention.flex_attention", reason="this PyTorch has no FlexAttention")
    documents = torch.arange(1000, device="cuda") // 300
    block_mask = flex.create_block_mask(lambda b, h, i, j: (i >= j) & (documents[i] == documents[j]), None, None,
                                        1000, 1000)
    pattern = tk.AttentionPattern.from_block_mask(block_mask, 1000, 1000)
    q, k, v = torch.randn(3, 2, 1000, 4, 64, device="cuda", dtype=torch.float16).unbind(0)
    seen = (documents[:, None] == documents).tril()
    right = torch.nn.functional.scaled_dot_product_attention(*(x.double().transpose(1, 2) for x in (q, k, v)),
                                                             attn_mask=seen)
    close(tk.block_sparse_attention(q, k, v, pattern), right.transpose(1, 2), torch.float16)


def test_current_stream():
    """Work goes to the current stream: behind what is already there, and nothing reaches the default one."""
    pattern, values = problem()
    values = values.detach()
    x = torch.zeros(128, 384, device="cuda", dtype=torch.float16)
    tk.sparse_linear(x, (values, pattern))
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        x.fill_(1)
        y = tk.sparse_linear(x, (values, pattern))
    assert not stream.query(), "the call did not wait"
    stream.synchronize()
    close(y, x @ _dense(values, pattern.crow_indices, pattern.col_indices, 256, 384).T, torch.float16)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_current_device():
    pattern, values = problem()
    x = torch.randn(128, 384, device="cuda", dtype=torch.float16)
    right = tk.sparse_linear(x, (values, pattern))
    moved = pattern.to("cuda:1")
    assert torch.cuda.current_device() == 0
    y = tk.sparse_linear(x.to("cuda:1"), (values.to("cuda:1"), moved))
    assert y.device.index == 1 and torch.equal(y.cpu(), right.cpu())


def test_cuda_graph():
    pattern, values = problem()
    values = values.detach()
    x = torch.randn(128, 384, device="cuda", dtype=torch.float16)
    q = torch.randn(1, 128, 4, 64, device="cuda", dtype=torch.float16)
    for _ in range(2):
        tk.sparse_linear(x, (values, pattern)), tk.attention(q, q, q)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y, o = tk.sparse_linear(x, (values, pattern)), tk.attention(q, q, q)
    x.normal_()
    q.normal_()
    graph.replay()
    assert torch.equal(y, tk.sparse_linear(x, (values, pattern))) and torch.equal(o, tk.attention(q, q, q))


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_inductor(mode):
    layer = tk.BlockSparseLinear(384, 256, 64, density=0.4, device="cuda", dtype=torch.float16)
    model = torch.nn.Sequential(layer, torch.nn.GELU(), torch.nn.Linear(256, 64, device="cuda", dtype=torch.float16))
    compiled = torch.compile(model, fullgraph=True, mode=mode)
    for _ in range(4):
        x = torch.randn(128, 384, device="cuda", dtype=torch.float16)
        loss = compiled(x).float().square().mean()
        loss.backward()
        gradient = layer.values.grad.clone()
        model.zero_grad(set_to_none=True)  # none of them: they are memory of a CUDA graph that will run again
        right = model(x).float().square().mean()
        right.backward()
        close(gradient, layer.values.grad, torch.bfloat16)
        model.zero_grad(set_to_none=True)
        assert loss.item() == pytest.approx(right.item(), rel=1e-2)


def test_autocast():
    layer = tk.BlockSparseLinear(384, 256, 64, density=0.4, device="cuda")
    x = torch.randn(128, 384, device="cuda", requires_grad=True)
    with torch.autocast("cuda", torch.bfloat16):
        y = layer(x)
    y.sum().backward()
    assert y.dtype == torch.bfloat16 and x.grad.dtype == layer.values.grad.dtype == torch.float32
    with pytest.raises(NotImplementedError):
        layer(x)  # float32 has no GPU kernel


def test_from_python_to_the_launch():
    """What a call costs before its kernel is launched. A guard against costs that grow, not the
    goal: an H100's host took 46 microseconds (bench/python_overhead.py says where they go)."""
    pattern, values = problem(rows=128, cols=128, density=1.0)
    values = values.detach()
    x = torch.randn(128, 128, device="cuda", dtype=torch.float16)
    times = []
    for _ in range(50):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(20):
            tk.sparse_linear(x, (values, pattern))
        times.append((time.perf_counter() - begin) / 20)
    assert min(times) < 200e-6, f"{1e6 * min(times):.1f} microseconds a call"
