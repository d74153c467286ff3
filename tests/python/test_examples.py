"""The examples run, small, on the CPU, and their own checks hold."""

import importlib.util
import pathlib

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


def load(name):
    specification = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("arguments", [["--tokens", "300", "--block", "64", "--density", "0.4"],
                                       ["--tokens", "200", "--block", "32", "--dtype", "bfloat16"]])
def test_prefill_layer(arguments, capsys, monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    example = load("prefill_layer")
    shape = example.Shape(hidden=256, heads=4, kv_heads=2, head_dim=64, mlp=512)
    sparse_ms, dense_ms, errors = example.main(["--device", "cpu", *arguments], shape)
    assert sparse_ms > 0 and dense_ms > 0 and max(errors) < (0.02 if "bfloat16" in arguments else 1e-5)
    assert "gate/up" in capsys.readouterr().out
    # Its check notices blocks other than those that were asked for.
    with monkeypatch.context() as patch:
        attention = example.tk.block_sparse_attention
        patch.setattr(example.tk, "block_sparse_attention",
                      lambda *qkvp, causal: attention(*qkvp, causal=causal, window=(8, 0)))
        blocks = example.causal_blocks
        patch.setattr(example, "causal_blocks", lambda *sizes: blocks(*sizes).clamp(max=1))  # none in full
        with pytest.raises(SystemExit, match="wrong"):
            example.main(["--device", "cpu", *arguments], shape)


def test_prefill_layers_density():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    blocks = load("prefill_layer").causal_blocks(8, 128 * 100, 0.1, 128, "cpu")
    assert blocks.shape == (1, 8, 100, 100) and not blocks.triu(1).any()
    assert torch.equal(blocks.diagonal(dim1=2, dim2=3), torch.ones(1, 8, 100, dtype=torch.uint8))
    assert (blocks != 0).sum() / (8 * 100 * 101 / 2) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("block", [64, 128])
def test_video_attention(block, tmp_path, capsys):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    picture = tmp_path / "picture.png"
    example = load("video_attention")
    _, _, errors = example.main(["--device", "cpu", "--frames", "8", "--height", "16", "--width", "32", "--top", "6",
                                 "--block", str(block), "--plot", str(picture)])
    window, top, both = errors.values()
    assert both < window and both < top and both < 0.1
    printed = capsys.readouterr().out
    if picture.exists():
        assert picture.read_bytes().startswith(b"\x89PNG")
    else:
        assert "matplotlib is not installed" in printed


def test_video_tiles_are_neighbourhoods():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    video = load("video_attention").Video(8, 8, 16, 64, torch.device("cpu"))
    assert torch.equal(video.order.sort().values, torch.arange(1024))
    tiles = video.places().view(16, 64, 3)
    assert ((tiles.amax(1) - tiles.amin(1)) == torch.tensor([3.0, 3.0, 3.0])).all()
    near = video.window((1, 1, 1))
    first = tiles.amin(1)
    assert torch.equal(near, (first[:, None] - first[None]).abs().amax(-1) <= 4)


def test_jax_attention(capsys):
    pytest.importorskip("jax", reason="JAX is not installed")
    errors = load("jax_attention").main(["--tokens", "512", "--top", "3"])
    assert max(errors) < 1e-4 and "of the blocks" in capsys.readouterr().out


def test_cupy_attention():
    pytest.importorskip("cupy", reason="CuPy is not installed")
    import triage_kernels as tk
    if tk.cuda_device_count() == 0:
        pytest.skip("the library sees no GPU")
    assert load("cupy_attention").main(["--tokens", "1000"]) < 1e-2
