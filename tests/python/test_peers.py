"""The peers' script of attention: its masks, its reference and FlexAttention, on the CPU. What needs a GPU to run at all
(timing, the other peers) is not tested here."""

import math

import pytest

torch = pytest.importorskip("torch")

from triage_kernels import block_sparse_peers, peers  # noqa: E402

KINDS = ("uniform", "window_and_full_rows", "power_law")


def sparse_shape(kind="uniform", block=64, density=0.3, kv_heads=2, seqlen=512):
    shape = {"name": "block-sparse", "batch": 1, "heads": 2, "kv_heads": kv_heads, "seqlen_q": seqlen,
             "seqlen_k": seqlen, "head_dim": 64, "causal": False, "block": block, "pattern": kind, "density": density}
    return {**shape, "mask": block_sparse_peers.random_mask(torch, shape, "cpu")}


def operands(shape, dtype=torch.float32):
    return [torch.randn(shape["batch"], shape[length], shape[heads], shape["head_dim"], dtype=dtype)
            for length, heads in (("seqlen_q", "heads"), ("seqlen_k", "kv_heads"), ("seqlen_k", "kv_heads"))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("density", (0.05, 0.25))
def test_masks_have_their_density(kind, density):
    shape = sparse_shape(kind, density=density, seqlen=4096)
    mask = shape["mask"]
    assert mask.shape == (1, 2, 64, 64) and mask.dtype == torch.bool
    assert mask.float().mean().item() == pytest.approx(density, rel=0.1)
    assert not torch.equal(mask[0, 0], mask[0, 1])
    lengths = mask.sum(-1)
    if kind == "uniform":
        assert (lengths == round(density * 64)).all()
    elif kind == "window_and_full_rows":
        assert ((lengths == 64).sum(-1) == round(density / 4 * 64)).all()
    else:
        assert (lengths.amax(-1) > 2 * lengths.float().mean(-1)).all()


def test_lists_hold_the_blocks():
    mask = sparse_shape("power_law")["mask"]
    counts, indices = block_sparse_peers.lists(torch, mask)
    assert indices.dtype == counts.dtype == torch.int32
    again = torch.zeros_like(mask)
    for place in torch.cartesian_prod(torch.arange(2), torch.arange(8)).tolist():
        again[0, *place, indices[0, *place, :counts[0, *place]].long()] = True
    assert torch.equal(again, mask)


@pytest.mark.parametrize("kv_heads", (1, 2))
@pytest.mark.parametrize("block", (None, 64, 128))
def test_reference_is_the_definition(kv_heads, block):
    shape = sparse_shape("power_law", block or 64, kv_heads=kv_heads)
    if block is None:
        shape = {**shape, "causal": True, "block": None}
        allowed = torch.ones(512, 512, dtype=torch.bool).tril()
    else:
        allowed = shape["mask"].repeat_interleave(block, 2).repeat_interleave(block, 3)
    q, k, v = (x.requires_grad_() for x in operands(shape))
    d_o = torch.randn_like(q)
    heads = [x.transpose(1, 2).repeat_interleave(2 // x.shape[2], 1) for x in (q, k, v)]
    weights = (heads[0] @ heads[1].mT / math.sqrt(64)).masked_fill(~allowed, float("-inf"))
    out = (torch.softmax(weights, -1).nan_to_num(0) @ heads[2]).transpose(1, 2)
    got, = peers.reference(torch, *(x.detach() for x in (q, k, v)), None, shape)
    torch.testing.assert_close(got, out, rtol=1e-4, atol=1e-5)
    if block:
        assert peers.attended_pairs(shape) * 2 == allowed.sum()
    if allowed.any(-1).all():  # autograd of a row of -inf is NaN
        for gradient, want in zip(peers.reference(torch, *(x.detach() for x in (q, k, v)), d_o, shape),
                                  torch.autograd.grad(out, (q, k, v), d_o)):
            torch.testing.assert_close(gradient, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", (64, 128))
def test_flex_attention_and_triage_agree_with_the_reference(block):
    pytest.importorskip("torch.nn.attention.flex_attention")
    if "seq_lengths" not in __import__("inspect").signature(
            torch.nn.attention.flex_attention.BlockMask.from_kv_blocks).parameters:
        pytest.skip("PyTorch before 2.6 cannot make a BlockMask of lists for given lengths")
    shape = sparse_shape(block=block)
    tensors = operands(shape)
    right = peers.reference(torch, *tensors, None, shape)
    for build in (block_sparse_peers.flex_attention, peers.OURS["triage"]):
        _, result, version = build(torch, *tensors, shape)
        assert version
        assert peers.worst_error(torch, [result()], right, False) < 0.05  # of a rounding of float16
    wrong = {**shape, "mask": ~shape["mask"]}
    _, result, _ = peers.OURS["triage"](torch, *tensors, wrong)
    assert peers.worst_error(torch, [result()], right, False) > 100


def test_what_is_not_installed_is_named():
    for build in (block_sparse_peers.fa4, block_sparse_peers.cudnn):
        shape = sparse_shape()
        with pytest.raises((RuntimeError, ImportError), match="install|No module"):
            build(torch, *operands(shape), shape)[0]()


def test_cases_are_the_verdicts():
    cases = peers.usual_cases("attention.forward", True)
    assert len(cases) == 16 and all(peers.shared_by_all(case["shape"]) for case in cases)
    assert {case["shape"]["pattern"] for case in cases} == set(KINDS)
    assert len(peers.usual_cases("attention.forward", False)) == 42
    assert not peers.shared_by_all({**cases[0]["shape"], "causal": True})
