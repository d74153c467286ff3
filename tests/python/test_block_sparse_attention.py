"""Block-sparse attention in PyTorch on the CPU: every source of blocks, results and gradients against dense products
under the mask, with every option; operators, compilation, updates."""

import copy
import gc
import io
import pickle

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import triage_kernels as tk  # noqa: E402
from attention_definition import attend  # noqa: E402

kHeads, kKvHeads, kDim, kDimV = 4, 2, 16, 8
kQ, kK = 150, 200  # 3 x 4 blocks of 64, 2 x 2 of 128; ragged at the ends


def block_shape(block, seqlen_q=kQ, seqlen_k=kK):
    return -(-seqlen_q // block[0]), -(-seqlen_k // block[1])


def random_blocks(batch=1, heads=1, block=(64, 64), seqlen_q=kQ, seqlen_k=kK, most=2):
    """uint8 masks of blocks: 0, 1 listed, 2 full; the last row of the first mask is empty."""
    rows, cols = block_shape(block, seqlen_q, seqlen_k)
    blocks = torch.randint(0, most + 1, (batch, heads, rows, cols), dtype=torch.uint8)
    blocks[0, 0, 0, :2] = torch.tensor([1, most], dtype=torch.uint8)
    blocks[0, 0, -1] = 0
    return blocks


def attended(blocks, block, seqlen_q, seqlen_k, heads=kHeads, causal=False, window=(-1, -1), index=None, elements=None):
    """bool [batch, heads, seqlen_q, seqlen_k]: the meaning of a pattern and the call's interval."""
    def spread(x):
        return x.repeat_interleave(block[0], 2).repeat_interleave(block[1], 3)[:, :, :seqlen_q, :seqlen_k]
    i = torch.arange(seqlen_q)[:, None] + seqlen_k - seqlen_q
    j = torch.arange(seqlen_k)[None, :]
    let = torch.ones(seqlen_q, seqlen_k, dtype=torch.bool)
    if causal:
        let &= j <= i
    if window[0] >= 0:
        let &= j >= i - window[0]
    if window[1] >= 0:
        let &= j <= i + window[1]
    let = let.expand(*blocks.shape[:2], -1, -1)
    if index is not None:
        whole = torch.ones(1, *block, dtype=torch.bool)
        bits = torch.cat([elements.bool(), whole])[index.long()]  # -1: the last, all true
        bits = bits.permute(0, 1, 2, 4, 3, 5).flatten(4, 5).flatten(2, 3)[:, :, :seqlen_q, :seqlen_k]
        let = let & bits
    seen = (spread(blocks) == 2) | (spread(blocks) == 1) & let
    return seen.repeat_interleave(heads // seen.shape[1], 1)


def inputs(seqlen_q=kQ, seqlen_k=kK, batch=2, dtype=torch.float64):
    shapes = [(seqlen_q, kHeads, kDim), (seqlen_k, kKvHeads, kDim), (seqlen_k, kKvHeads, kDimV)]
    return [torch.randn(batch, *shape, dtype=dtype).requires_grad_() for shape in shapes]


def random_elements(blocks, block, n=3):
    index = torch.randint(-1, n, blocks.shape, dtype=torch.int32)
    index[0, 0, 0, 0] = 0
    return index, torch.rand(n, *block) < 0.4


# Every option, alone and together; "sinks" stands for a tensor that requires a gradient, "elements" for bit masks.
OPTIONS = {
    "plain": {},
    "causal": {"causal": True},
    "scale": {"softmax_scale": 0.7},
    "window-left": {"window": (30, -1)},
    "window-right": {"window": (-1, 20)},
    "softcap": {"softcap": 0.8},
    "sinks": {"sinks": True},
    "nondeterministic": {"deterministic": False},
    "elements": {"elements": True},
    "all": {"causal": True, "window": (90, -1), "softcap": 1.3, "softmax_scale": 0.5, "sinks": True, "elements": True},
}


def problem(name, block=(64, 64), batch=1, heads=1, seqlen_q=kQ, seqlen_k=kK):
    """(pattern, options of the call, seen) for an entry of OPTIONS."""
    options = dict(OPTIONS[name])
    blocks = random_blocks(batch, heads, block, seqlen_q, seqlen_k)
    pattern = tk.AttentionPattern.from_mask(blocks, seqlen_q, seqlen_k, block)
    index, elements = random_elements(blocks, block) if options.pop("elements", False) else (None, None)
    if index is not None:
        pattern.set_elements(index, elements)
    if options.get("sinks"):
        options["sinks"] = torch.randn(kHeads).requires_grad_()
    mask_options = {key: options[key] for key in ("causal", "window") if key in options}
    return pattern, options, attended(blocks, block, seqlen_q, seqlen_k, index=index, elements=elements, **mask_options)


def plain_options(options):
    return {name: value for name, value in options.items() if name in ("softmax_scale", "softcap", "sinks")}


def compare(q, k, v, pattern, options, seen, **packed):
    wanted = [q, k, v] + ([options["sinks"]] if "sinks" in options else [])
    o, lse = tk.block_sparse_attention(q, k, v, pattern, return_lse=True, **options, **packed)
    right_o, right_lse = attend(q, k, v, seen, **plain_options(options))
    torch.testing.assert_close(o, right_o, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(lse.double(), right_lse, rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(tk.block_sparse_attention(q, k, v, pattern, **options, **packed), o), "past the dispatcher"
    # A row that attends nothing has no gradient through its lse of -inf; the library's answer is 0.
    d_o, d_lse = torch.randn_like(o), torch.randn_like(lse).masked_fill(right_lse.isinf(), 0.0)
    right = torch.autograd.grad([right_o, right_lse.masked_fill(right_lse.isinf(), 0.0)], wanted, [d_o, d_lse.double()])
    for gradient, expected in zip(torch.autograd.grad([o, lse], wanted, [d_o, d_lse]), right):
        expected = expected.nan_to_num(0.0)  # dense products make NaN out of empty rows
        torch.testing.assert_close(gradient, expected.to(gradient.dtype), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("block", [(64, 64), (128, 128), (64, 128), (128, 64)])
def test_result_and_gradients(name, block):
    compare(*inputs(), *problem(name, block))


@pytest.mark.parametrize("batch, heads", [(1, kKvHeads), (1, kHeads), (2, 1), (2, kKvHeads), (2, kHeads)])
@pytest.mark.parametrize("name", ["plain", "all"])
def test_stacks_of_masks(name, batch, heads):
    compare(*inputs(), *problem(name, batch=batch, heads=heads))


@pytest.mark.parametrize("name", OPTIONS)
def test_gradcheck(name):
    """Finite differences in float64, through the public function, over two blocks of queries and of keys."""
    pattern, options, _ = problem(name, seqlen_q=67, seqlen_k=70)
    options = {key: value.detach() if key == "sinks" else value for key, value in options.items()}
    q, k, v = (torch.randn(1, length, 2, 8, dtype=torch.float64) for length in (67, 70, 70))
    if "sinks" in options:
        options["sinks"] = options["sinks"][:2]
    assert torch.autograd.gradcheck(lambda *qkv: tk.block_sparse_attention(*qkv, pattern, **options),
                                    [x.requires_grad_() for x in (q, k, v)], atol=1e-4, fast_mode=True)


@pytest.mark.parametrize("change", [
    {"causal": True}, {"softmax_scale": 0.4}, {"window": (25, -1)}, {"window": (-1, 10)}, {"softcap": 0.5},
    {"sinks": torch.ones(kHeads)}, {"elements": True}, {"blocks": True}])
def test_no_option_is_dropped(change):
    """Each option changes each gradient as its meaning says: what the wrapper drops on the way back would not."""
    q, k, v = inputs()
    blocks = random_blocks(most=1)
    direction = torch.randn(2, kQ, kHeads, kDimV, dtype=torch.float64)
    pattern = tk.AttentionPattern.from_mask(blocks, kQ, kK)

    def gradients(o):
        return torch.autograd.grad(o, (q, k, v), direction)
    before = gradients(tk.block_sparse_attention(q, k, v, pattern))
    options, index, elements = dict(change), None, None
    if options.pop("elements", False):
        index, elements = random_elements(blocks, (64, 64))
        pattern.set_elements(index, elements)
    if options.pop("blocks", False):
        blocks = 1 - blocks
        pattern.update_mask(blocks)
    after = gradients(tk.block_sparse_attention(q, k, v, pattern, **options))
    seen = attended(blocks, (64, 64), kQ, kK, index=index, elements=elements,
                    **{key: options[key] for key in ("causal", "window") if key in options})
    right = gradients(attend(q, k, v, seen, **plain_options(options))[0])
    for was, now, expected in zip(before, after, right):
        assert (was - now).abs().max() > 1e-3
        torch.testing.assert_close(now, expected.nan_to_num(0.0), rtol=2e-5, atol=2e-6)


def test_packed_sequences():
    lengths_q, lengths_k = [70, 0, 130], [100, 64, 150]
    bounds_q, bounds_k = (torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32)
                          for lengths in (lengths_q, lengths_k))
    q = torch.randn(200, kHeads, kDim, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(314, kKvHeads, dim, dtype=torch.float64, requires_grad=True) for dim in (kDim, kDimV))
    blocks = random_blocks(3, kHeads, seqlen_q=130, seqlen_k=150)
    pattern = tk.AttentionPattern.from_mask(blocks, 130, 150)
    o = tk.block_sparse_attention(q, k, v, pattern, causal=True, cu_seqlens_q=bounds_q, cu_seqlens_k=bounds_k,
                                  max_seqlen_q=130, max_seqlen_k=150)
    parts = []
    for b, (length_q, length_k) in enumerate(zip(lengths_q, lengths_k)):
        seen = attended(blocks[b:b + 1], (64, 64), length_q, length_k, causal=True)
        parts.append(attend(q[None, bounds_q[b]:bounds_q[b + 1]], k[None, bounds_k[b]:bounds_k[b + 1]],
                             v[None, bounds_k[b]:bounds_k[b + 1]], seen)[0][0])
    right = torch.cat(parts)
    torch.testing.assert_close(o, right, rtol=1e-10, atol=1e-10)
    direction = torch.randn_like(o)
    for gradient, expected in zip(torch.autograd.grad(o, (q, k, v), direction),
                                  torch.autograd.grad(right, (q, k, v), direction)):
        torch.testing.assert_close(gradient, expected.nan_to_num(0.0), rtol=2e-5, atol=2e-6)


# ---- Where blocks come from ----


def lists_of(blocks, value, dtype=torch.int32):
    """(counts, indices) of the blocks that are `value`."""
    chosen = blocks == value
    counts = chosen.sum(-1).to(dtype)
    return counts, torch.argsort(chosen.int(), dim=-1, descending=True, stable=True).to(dtype)


def test_every_source_gives_the_same_masks():
    blocks = random_blocks(2, 4, (64, 128))
    make = tk.AttentionPattern
    pattern = make.from_mask(blocks, kQ, kK, (64, 128))
    assert torch.equal(pattern.mask(), blocks) and pattern.mask().dtype == torch.uint8
    assert (pattern.batch, pattern.heads, pattern.seqlen_q, pattern.seqlen_k) == (2, 4, kQ, kK)
    assert pattern.block_size == (64, 128) and not pattern.has_elements
    assert pattern.density() == pytest.approx((blocks != 0).double().mean().item())
    assert "2 x 4 masks of 150 x 200" in repr(pattern)
    (counts, indices), (full_counts, full_indices) = lists_of(blocks, 1), lists_of(blocks, 2, torch.int64)
    listed = make.from_lists(indices, kQ, kK, (64, 128), counts=counts, full_indices=full_indices,
                             full_counts=full_counts)
    assert torch.equal(listed.mask(), blocks)
    fa4 = make.from_fa4(counts, indices, full_counts, full_indices, seqlen_q=kQ, seqlen_k=kK, block_size=(64, 128))
    assert torch.equal(fa4.mask(), blocks)

    ones = (blocks != 0).to(torch.uint8)
    crow = torch.nn.functional.pad(ones.flatten(0, 2).sum(-1).cumsum(0).view(2, 4, 3), (1, 0))
    crow[:, :, 0] = torch.nn.functional.pad(crow[:, :, -1].flatten(), (1, 0))[:-1].view(2, 4)
    csr = make.from_csr(crow, ones.nonzero()[:, 3], kQ, kK, (64, 128))
    assert torch.equal(csr.mask(), ones)
    assert torch.equal(make.from_mask(ones.bool(), kQ, kK, (64, 128)).mask(), ones)

    scores = torch.randn(1, 2, 3, 4)
    best = make.from_topk(scores.topk(2).indices, kQ, kK)
    assert torch.equal(best.mask(), torch.zeros_like(scores).scatter_(-1, scores.topk(2).indices, 1).to(torch.uint8))

    square = random_blocks(most=1)[0, 0]
    shared = make.from_pattern(tk.BlockPattern.from_mask(square.bool(), 64, (kQ, kK)))
    assert torch.equal(shared.mask()[0, 0], square) and shared.seqlen_q == kQ
    assert torch.equal(make.from_mask(square, kQ, kK).mask()[0, 0], square)  # leading dimensions may be left out


@pytest.mark.parametrize("block", [(128, 128), (64, 64), (64, 128)])
@pytest.mark.parametrize("per_head", [False, True])
def test_flex_attention_block_mask(block, per_head):
    flex = pytest.importorskip("torch.nn.attention.flex_attention", reason="this PyTorch has no FlexAttention")
    documents = torch.arange(max(kQ, kK)) // 60

    def mask_mod(b, h, i, j):
        mask = (i >= j - 50) & (documents[i] == documents[j]) | (j < 3)
        return mask & (j % 2 == h % 2) if per_head else mask
    batch, heads = (2, kHeads) if per_head else (None, None)
    block_mask = flex.create_block_mask(mask_mod, batch, heads, kQ, kK, device="cpu", BLOCK_SIZE=block)
    pattern = tk.AttentionPattern.from_block_mask(block_mask, kQ, kK)
    seen = flex.create_mask(mask_mod, batch, heads, kQ, kK, device="cpu").expand(2, kHeads, kQ, kK)
    q, k, v = inputs()
    assert pattern.has_elements and (pattern.batch, pattern.heads) == ((2, kHeads) if per_head else (1, 1))
    compare(q, k, v, pattern, {}, seen)


def test_flex_attention_block_mask_with_full_blocks():
    flex = pytest.importorskip("torch.nn.attention.flex_attention", reason="this PyTorch has no FlexAttention")
    block_mask = flex.create_block_mask(lambda b, h, i, j: i >= j, None, None, 256, 256, device="cpu", BLOCK_SIZE=64)
    pattern = tk.AttentionPattern.from_block_mask(block_mask)
    assert torch.equal(pattern.mask()[0, 0], (torch.eye(4) + 2 * torch.ones(4, 4).tril(-1)).to(torch.uint8))
    q, k, v = inputs(256, 256)
    torch.testing.assert_close(tk.block_sparse_attention(q, k, v, pattern), tk.attention(q, k, v, causal=True))


def test_updates():
    first, second = random_blocks(1, 2), random_blocks(1, 2)
    pattern = tk.AttentionPattern.from_mask(first, kQ, kK)
    pattern.update_mask(second)
    assert torch.equal(pattern.mask(), second) and torch.equal(pattern.blocks, second)
    (counts, indices), (full_counts, full_indices) = lists_of(first, 1), lists_of(first, 2)
    pattern.update_lists(indices, counts=counts, full_indices=full_indices, full_counts=full_counts)
    assert torch.equal(pattern.mask(), first)
    pattern.update_topk(torch.tensor([[[[3], [1], [-1]]] * 2]))
    assert torch.equal(pattern.mask()[0, 1], torch.tensor([[0, 0, 0, 1], [0, 1, 0, 0], [0] * 4], dtype=torch.uint8))
    pattern.update_csr(torch.tensor([[[0, 1, 1, 2], [2, 2, 2, 4]]]), torch.tensor([0, 3, 1, 2]))
    assert pattern.mask().flatten().nonzero().flatten().tolist() == [0, 11, 21, 22]
    with pytest.raises(ValueError, match="mask"):
        pattern.update_mask(first[:, :1])
    with pytest.raises(ValueError, match="kind"):
        pattern.update_mask(first.numpy())


def test_an_update_before_the_backward_is_refused():
    q, k, v = inputs()
    pattern = tk.AttentionPattern.from_mask(random_blocks(), kQ, kK)
    o = tk.block_sparse_attention(q, k, v, pattern)
    pattern.update_mask(random_blocks())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        o.sum().backward()


def test_backward_without_the_pattern():
    """Autograd keeps what it needs, not the Python object."""
    q, k, v = inputs()
    pattern, options, seen = problem("elements")
    o = tk.block_sparse_attention(q, k, v, pattern, **options)
    del pattern
    gc.collect()
    direction = torch.randn_like(o)
    gradients = torch.autograd.grad(o, (q, k, v), direction)
    right = torch.autograd.grad(attend(q, k, v, seen)[0], (q, k, v), direction)
    for gradient, expected in zip(gradients, right):
        torch.testing.assert_close(gradient, expected.nan_to_num(0.0), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pattern: pickle.loads(pickle.dumps(pattern))])
def test_copies(copied):
    pattern, _, seen = problem("elements", heads=2)
    compare(*inputs(), copied(pattern), {}, seen)
    assert pattern.to("cpu") is pattern


# ---- Operators ----


def operator_arguments(pattern, sinks=None):
    return (*inputs(dtype=torch.float32), pattern.blocks, pattern.element_index, pattern.elements, None, None, sinks,
            kQ, kK, 64, 64, 0, 0, 0.3, True, 100, -1, 1.5, True)


@pytest.mark.parametrize("name", ["plain", "all"])
def test_opcheck(name):
    pattern, options, _ = problem(name)
    torch.library.opcheck(torch.ops.triage.block_sparse_attention.default,
                          operator_arguments(pattern, options.get("sinks")))


def test_opcheck_backward():
    pattern, options, _ = problem("all")
    arguments = [x.detach() if torch.is_tensor(x) else x for x in operator_arguments(pattern, options["sinks"])]
    o, lse = torch.ops.triage.block_sparse_attention(*arguments)
    torch.library.opcheck(torch.ops.triage.block_sparse_attention_backward.default,
                          (torch.randn_like(o), None, *arguments[:3], o, lse, *arguments[3:]))


@pytest.mark.parametrize("name", OPTIONS)
def test_compile(name):
    q, k, v = inputs()
    pattern, options, _ = problem(name, heads=2)
    wanted = [q, k, v] + ([options["sinks"]] if "sinks" in options else [])
    compiled = torch.compile(lambda q, k, v, pattern: tk.block_sparse_attention(q, k, v, pattern, **options),
                             fullgraph=True, backend="aot_eager")
    for _ in range(2):  # before and after an update, which needs no compilation
        o, right = compiled(q, k, v, pattern), tk.block_sparse_attention(q, k, v, pattern, **options)
        assert torch.equal(o, right)
        direction = torch.randn_like(o)
        for gradient, expected in zip(torch.autograd.grad(o, wanted, direction),
                                      torch.autograd.grad(right, wanted, direction)):
            torch.testing.assert_close(gradient, expected)
        pattern.update_mask(random_blocks(heads=2))


def test_compiled_module_sees_its_patterns_updates():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pattern = tk.AttentionPattern.from_mask(random_blocks(), kQ, kK)

        def forward(self, q, k, v):
            return tk.block_sparse_attention(q, k, v, self.pattern, causal=True)

    testing = pytest.importorskip("torch._dynamo.testing")
    model, qkv = Model(), [x.detach() for x in inputs()]
    counter = testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    before = compiled(*qkv)
    model.pattern.update_mask(random_blocks())
    after = compiled(*qkv)
    assert torch.equal(after, model(*qkv)) and not torch.equal(before, after)
    assert counter.frame_count == 1


def test_export():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pattern, _, self.seen = problem("elements")

        def forward(self, q, k, v):
            return tk.block_sparse_attention(q, k, v, self.pattern)

    model, qkv = Model(), tuple(x.detach() for x in inputs())
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, qkv, dynamic_shapes=({0: batch}, {0: batch}, {0: batch}))
    right = attend(*qkv, model.seen)[0]
    memory = io.BytesIO()
    torch.export.save(program, memory)
    del model, program
    gc.collect()
    memory.seek(0)
    loaded = torch.export.load(memory).module()
    torch.testing.assert_close(loaded(*qkv), right, rtol=1e-10, atol=1e-10)


def test_autocast():
    q, k, v = (x.detach().float().requires_grad_() for x in inputs())
    pattern, options, seen = problem("sinks")
    with torch.autocast("cpu", torch.bfloat16):
        o = tk.block_sparse_attention(q, k, v, pattern, **options)
    assert o.dtype == torch.bfloat16
    torch.testing.assert_close(o.float(), attend(q, k, v, seen, **options)[0], rtol=0.05, atol=0.05)
    o.sum().backward()
    assert q.grad.dtype == options["sinks"].grad.dtype == torch.float32


def test_numpy():
    blocks = random_blocks(1, 2)
    qkv = [x.detach().numpy() for x in inputs()]
    pattern = tk.AttentionPattern.from_mask(blocks.numpy(), kQ, kK)
    right = attend(*map(torch.from_numpy, qkv), attended(blocks, (64, 64), kQ, kK, causal=True))
    for function in (tk.attention, tk.block_sparse_attention):
        o, lse = function(*qkv, pattern=pattern, causal=True, return_lse=True)
        torch.testing.assert_close(torch.from_numpy(o), right[0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(torch.from_numpy(lse).double(), right[1], rtol=1e-6, atol=1e-6)
    index, elements = random_elements(blocks, (64, 64))
    pattern.set_elements(index.numpy(), elements.numpy())
    seen = attended(blocks, (64, 64), kQ, kK, index=index, elements=elements)
    torch.testing.assert_close(torch.from_numpy(tk.attention(*qkv, pattern=pattern)),
                               attend(*map(torch.from_numpy, qkv), seen)[0], rtol=1e-10, atol=1e-10)
    assert (pattern.mask() == blocks.numpy()).all()
    with pytest.raises(ValueError, match="no PyTorch tensors"):
        tk.block_sparse_attention(*inputs(), pattern)


@pytest.mark.parametrize("call, words", [
    (lambda q, k, v, p: tk.block_sparse_attention(q, k, v, None), "pattern is None"),
    (lambda q, k, v, p: tk.block_sparse_attention(q, k, v, p.blocks),
     "pattern is a Tensor, accepted: an AttentionPattern"),
    (lambda q, k, v, p: tk.block_sparse_attention(q[:, :100], k, v, p), "seqlen_q 150, accepted: 100"),
    (lambda q, k, v, p: tk.attention(q, k, v, pattern=p, num_splits=3), "num_splits is 3"),
    (lambda q, k, v, p: tk.attention(q, k, v, pattern=p, seqused_k=torch.ones(2, dtype=torch.int32)), "seqused_k"),
    (lambda q, k, v, p: tk.AttentionPattern.from_mask(p.blocks, kQ, kK, 32), "block_q is 32, accepted: 64, 128"),
    (lambda q, k, v, p: tk.AttentionPattern.from_mask(p.blocks, kQ, kK, "64"), "block_size is '64', accepted: 64, 128"),
    (lambda q, k, v, p: tk.AttentionPattern.from_mask(p.blocks, kQ, 300), "mask has the shape"),
    (lambda q, k, v, p: tk.AttentionPattern.from_mask(p.blocks.float(), kQ, kK),
     "mask is float32, accepted: bool, uint8"),
    (lambda q, k, v, p: tk.AttentionPattern.from_topk(torch.tensor([[4], [0], [0]]), kQ, kK), "holds 4"),
    (lambda q, k, v, p: tk.AttentionPattern.from_pattern(p), "accepted: a BlockPattern"),
    (lambda q, k, v, p: p.set_elements(torch.zeros(1, 1, 3, 4), torch.ones(1, 64, 64)), "float32"),
])
@pytest.mark.parametrize("gradients", [True, False])
def test_bad_arguments(call, words, gradients):
    pattern = tk.AttentionPattern.from_mask(random_blocks(), kQ, kK)
    with torch.set_grad_enabled(gradients), pytest.raises(ValueError, match=words) as caught:
        call(*inputs(), pattern)
    assert isinstance(caught.value, tk.Error)
    with pytest.raises(TypeError, match="from_mask"):
        tk.AttentionPattern()
