"""Attention in PyTorch on the CPU: results, gradients by finite differences with every option, operators, transformations."""

import io

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import triage_kernels as tk  # noqa: E402
from triage_kernels import _calls  # noqa: E402
from attention_definition import attend  # noqa: E402

kHeads, kKvHeads, kDim, kDimV = 4, 2, 16, 8


def meaning(q, k, v, causal=False, softmax_scale=None, window=(-1, -1), softcap=0.0, sinks=None):
    """(o, lse), differentiable."""
    i = torch.arange(q.shape[1])[:, None] + k.shape[1] - q.shape[1]
    j = torch.arange(k.shape[1])[None, :]
    seen = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool)
    if causal:
        seen &= j <= i
    if window[0] >= 0:
        seen &= j >= i - window[0]
    if window[1] >= 0:
        seen &= j <= i + window[1]
    return attend(q, k, v, seen, softmax_scale, softcap, sinks)


def inputs(seqlen_q=7, seqlen_k=9, batch=2, dtype=torch.float64, kv_heads=kKvHeads):
    shapes = [(seqlen_q, kHeads, kDim), (seqlen_k, kv_heads, kDim), (seqlen_k, kv_heads, kDimV)]
    return [torch.randn(batch, *shape, dtype=dtype).requires_grad_() for shape in shapes]


# Every option the backward takes, alone and together; {"sinks": True} stands for a tensor that requires a gradient.
OPTIONS = {
    "plain": {},
    "causal": {"causal": True},
    "scale": {"softmax_scale": 0.7},
    "window-left": {"window": (3, -1)},
    "window-right": {"window": (-1, 1)},
    "window": {"window": (2, 1)},
    "softcap": {"softcap": 0.8},
    "sinks": {"sinks": True},
    "num_splits": {"num_splits": 2},
    "nondeterministic": {"deterministic": False},
    "all": {"causal": True, "window": (4, -1), "softcap": 1.3, "softmax_scale": 0.5, "sinks": True},
}


@pytest.fixture(params=OPTIONS)
def options(request):
    options = dict(OPTIONS[request.param])
    if "sinks" in options:
        options["sinks"] = torch.randn(kHeads).requires_grad_()
    return options


def plain_options(options):
    return {name: value for name, value in options.items() if name not in ("num_splits", "deterministic")}


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_result_and_gradients(options, kv_heads):
    """Through o and lse at once, every gradient; also with respect to the sinks."""
    q, k, v = inputs(kv_heads=kv_heads)
    wanted = [q, k, v] + ([options["sinks"]] if "sinks" in options else [])
    o, lse = tk.attention(q, k, v, return_lse=True, **options)
    right_o, right_lse = meaning(q, k, v, **plain_options(options))
    torch.testing.assert_close(o, right_o, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(lse.double(), right_lse, rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(tk.attention(q, k, v, **options), o), "past the dispatcher"
    d_o, d_lse = torch.randn_like(o), torch.randn_like(lse)
    # lse is float32, which limits the gradients to its precision.
    for gradient, right in zip(torch.autograd.grad([o, lse], wanted, [d_o, d_lse]),
                               torch.autograd.grad([right_o, right_lse], wanted, [d_o, d_lse.double()])):
        torch.testing.assert_close(gradient, right.to(gradient.dtype), rtol=2e-5, atol=2e-6)


def test_gradcheck(options):
    """Finite differences in float64, through the public function. Sinks are float32, too coarse for these: their gradient
    is compared with its meaning above."""
    options = {name: value.detach() if name == "sinks" else value for name, value in options.items()}
    assert torch.autograd.gradcheck(lambda q, k, v: tk.attention(q, k, v, **options), inputs(4, 5, 1), atol=1e-4)


@pytest.mark.parametrize("name, change", [
    ("causal", {"causal": True}), ("softmax_scale", {"softmax_scale": 0.4}), ("window", {"window": (1, -1)}),
    ("window", {"window": (-1, 0)}), ("softcap", {"softcap": 0.5}), ("sinks", {"sinks": torch.ones(kHeads)})])
def test_no_option_is_dropped(name, change):
    """Each option changes each gradient, as its meaning says: what the wrapper drops on the way back would not."""
    q, k, v = inputs(8, 8)
    direction = torch.randn(2, 8, kHeads, kDimV, dtype=torch.float64)

    def gradients(function, **options):
        o = function(q, k, v, **options)
        return torch.autograd.grad(o if torch.is_tensor(o) else o[0], (q, k, v), direction)
    for before, after, right in zip(gradients(tk.attention), gradients(tk.attention, **change), gradients(meaning, **change)):
        assert (before - after).abs().max() > 1e-3
        torch.testing.assert_close(after, right, rtol=2e-5, atol=2e-6)


def test_packed_sequences():
    lengths_q, lengths_k = [3, 0, 5], [4, 2, 6]
    bounds_q, bounds_k = (torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32)
                          for lengths in (lengths_q, lengths_k))
    q = torch.randn(8, kHeads, kDim, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(12, kKvHeads, dim, dtype=torch.float64, requires_grad=True) for dim in (kDim, kDimV))
    settings = {"cu_seqlens_q": bounds_q, "cu_seqlens_k": bounds_k, "max_seqlen_q": 5, "max_seqlen_k": 6}
    o = tk.attention(q, k, v, causal=True, **settings)
    right = torch.cat([
        meaning(q[None, bounds_q[b]:bounds_q[b + 1]], k[None, bounds_k[b]:bounds_k[b + 1]],
                v[None, bounds_k[b]:bounds_k[b + 1]], causal=True)[0][0] for b in range(3)
    ])
    torch.testing.assert_close(o, right, rtol=1e-10, atol=1e-10)
    direction = torch.randn_like(o)
    for gradient, expected in zip(torch.autograd.grad(o, (q, k, v), direction, retain_graph=True),
                                  torch.autograd.grad(right, (q, k, v), direction)):
        torch.testing.assert_close(gradient, expected, rtol=2e-5, atol=2e-6)
    assert torch.autograd.gradcheck(lambda *qkv: tk.attention(*qkv, causal=True, **settings), (q, k, v), atol=1e-4)
    # Rows of no sequence have the gradient 0, whatever memory held before.
    longer = torch.randn(20, kHeads, kDim, dtype=torch.float64, requires_grad=True)
    tk.attention(longer, k, v, **settings)[:8].sum().backward()
    assert not longer.grad[8:].any() and longer.grad[:8].any()


@pytest.mark.parametrize("through", ["o", "lse"])
def test_one_result_is_enough(through):
    q, k, v = inputs()
    results, right = tk.attention(q, k, v, return_lse=True), meaning(q, k, v)
    index = ("o", "lse").index(through)
    for gradient, expected in zip(torch.autograd.grad(results[index].sum(), (q, k, v)),
                                  torch.autograd.grad(right[index].sum(), (q, k, v), allow_unused=True)):
        expected = torch.zeros_like(gradient) if expected is None else expected
        torch.testing.assert_close(gradient, expected, rtol=2e-5, atol=2e-6)


def test_fully_masked_rows():
    q, k, v = inputs(6, 3)
    o, lse = tk.attention(q, k, v, causal=True, return_lse=True)
    assert not o[:, :3].any() and torch.isinf(lse[:, :, :3]).all()
    o.sum().backward()
    assert not q.grad[:, :3].any() and q.grad[:, 3:].any() and k.grad.isfinite().all()


def test_transposed_inputs():
    """[batch, heads, seqlen, dim] memory, as SDPA has it, without a copy; and SDPA's result."""
    q, k, v = (torch.randn(2, kHeads, 6, kDim, requires_grad=True) for _ in range(3))
    o = tk.attention(*(x.transpose(1, 2) for x in (q, k, v)), causal=True).transpose(1, 2)
    right = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(o, right)
    for gradient, expected in zip(torch.autograd.grad(o.sum(), (q, k, v)), torch.autograd.grad(right.sum(), (q, k, v))):
        torch.testing.assert_close(gradient, expected)


def operator_arguments(sinks=None):
    return (*inputs(dtype=torch.float32), None, None, None, None, sinks, 0, 0, 0.3, True, 4, -1, 1.5, 0, True)


@pytest.mark.parametrize("sinks", [False, True])
def test_opcheck(sinks):
    arguments = operator_arguments(torch.randn(kHeads).requires_grad_() if sinks else None)
    torch.library.opcheck(torch.ops.triage.attention.default, arguments)


def test_opcheck_backward():
    arguments = [x.detach() if torch.is_tensor(x) else x for x in operator_arguments(torch.randn(kHeads))]
    o, lse = torch.ops.triage.attention(*arguments)
    torch.library.opcheck(torch.ops.triage.attention_backward.default,
                          (torch.randn_like(o), None, *arguments[:3], o, lse, *arguments[3:]))


def test_compile(options):
    q, k, v = inputs()
    wanted = [q, k, v] + ([options["sinks"]] if "sinks" in options else [])
    compiled = torch.compile(lambda q, k, v: tk.attention(q, k, v, **options), fullgraph=True, backend="aot_eager")
    o, right = compiled(q, k, v), tk.attention(q, k, v, **options)
    assert torch.equal(o, right)
    direction = torch.randn_like(o)
    for gradient, expected in zip(torch.autograd.grad(o, wanted, direction), torch.autograd.grad(right, wanted, direction)):
        torch.testing.assert_close(gradient, expected)


def test_export():
    class Model(torch.nn.Module):
        def forward(self, q, k, v):
            return tk.attention(q, k, v, causal=True, window=(3, -1))

    batch = torch.export.Dim("batch", min=2)
    qkv = [x.detach() for x in inputs()]
    program = torch.export.export(Model(), tuple(qkv), dynamic_shapes=({0: batch}, {0: batch}, {0: batch}))
    memory = io.BytesIO()
    torch.export.save(program, memory)
    memory.seek(0)
    loaded = torch.export.load(memory).module()
    more = [x.detach() for x in inputs(batch=5)]
    assert torch.equal(loaded(*more), Model()(*more))


def test_autocast():
    q, k, v = (x.detach().float().requires_grad_() for x in inputs())
    sinks = torch.randn(kHeads, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        o = tk.attention(q, k, v, sinks=sinks)
    assert o.dtype == torch.bfloat16
    torch.testing.assert_close(o.float(), meaning(q, k, v, sinks=sinks)[0], rtol=0.05, atol=0.05)
    o.sum().backward()
    assert q.grad.dtype == sinks.grad.dtype == torch.float32


@pytest.mark.parametrize("asked, of_torch, expected", [(None, False, False), (None, True, True), (True, False, True),
                                                       (False, True, False)])
def test_order_of_sums(monkeypatch, asked, of_torch, expected):
    """What `deterministic` becomes for the library, without and with PyTorch's own setting."""
    seen = []
    backward = _calls.attention_backward

    def record(*arguments):
        seen.append(arguments[-1])
        return backward(*arguments)
    monkeypatch.setattr(_calls, "attention_backward", record)
    torch.use_deterministic_algorithms(of_torch)
    try:
        q = torch.randn(1, 4, 2, 16, requires_grad=True)
        tk.attention(q, q, q, deterministic=asked).sum().backward()
        tk.block_sparse_attention(q, q, q, tk.AttentionPattern.from_mask(torch.ones(1, 1, dtype=torch.bool), 4, 4),
                                  deterministic=asked).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert seen == [expected, expected]


def test_second_derivative_is_refused():
    q, k, v = inputs()
    gradient, = torch.autograd.grad(tk.attention(q, k, v).sum(), q, create_graph=True)
    with pytest.raises(NotImplementedError, match="differentiated once"):
        gradient.sum().backward()


def test_caches_have_no_gradient():
    q, k, v = inputs()
    o = tk.attention(q, k, v, seqused_k=torch.tensor([4, 9], dtype=torch.int32))
    with pytest.raises(tk.Error, match="seqused_k"):
        o.sum().backward()


@pytest.mark.parametrize("call, words", [
    (lambda q, k, v: tk.attention(q[0], k, v), "q has 3 dimensions"),
    (lambda q, k, v: tk.attention(q, k.float(), v), "k is float32"),
    (lambda q, k, v: tk.attention(q, k[:, :, :, :8], v), "head dimension"),
    (lambda q, k, v: tk.attention(q, k, v, sinks=torch.ones(3)), "sinks"),
    (lambda q, k, v: tk.attention(q, k, v, window=(-2, 0)), "window_left"),
    (lambda q, k, v: tk.attention(q, k, v, softcap=-1.0), "softcap"),
    (lambda q, k, v: tk.attention(q, k, v, num_splits=65), "num_splits"),
])
@pytest.mark.parametrize("gradients", [True, False])
def test_bad_arguments(call, words, gradients):
    with torch.set_grad_enabled(gradients), pytest.raises(ValueError, match=words) as caught:
        call(*inputs())
    assert isinstance(caught.value, tk.Error)
