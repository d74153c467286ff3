"""What all Python tests share. Without TRIAGE_LIBRARY the installed package is tested; with it (as CTest does) this
checkout's Python files are, over that library."""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
if os.environ.get("TRIAGE_LIBRARY"):
    sys.path.insert(0, str(ROOT / "python"))
    for _name in [name for name in sys.modules if name.partition(".")[0] == "triage_kernels"]:
        del sys.modules[_name]

import numpy as np  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


@pytest.fixture(autouse=True)
def _seed():
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(20240607)
        if hasattr(torch, "_dynamo"):
            torch._dynamo.reset()


def pytest_report_header(config):
    import triage_kernels
    from triage_kernels import _library
    return f"triage_kernels {triage_kernels.library_version()}, {_library.path()}"
