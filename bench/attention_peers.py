"""`python -m triage_kernels.peers` without installing the package: peers of attention that a PyTorch user has."""

import pathlib
import runpy
import sys

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
    runpy.run_module("triage_kernels.peers", run_name="__main__")
