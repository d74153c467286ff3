"""`python -m triage_kernels.peers` without installing the package: peers of attention that a PyTorch user has."""

import pathlib
import runpy

if __name__ == "__main__":
    runpy.run_path(str(pathlib.Path(__file__).resolve().parents[1] / "python" / "triage_kernels" / "peers.py"),
                   run_name="__main__")
