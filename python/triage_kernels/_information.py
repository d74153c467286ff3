"""What the library can do on this machine, and what it did."""

import ctypes
import json

from . import _library


def library_version():
    """The library's version, "major.minor.patch"."""
    return _library.library().triage_version().decode()


def cuda_device_count():
    """Number of CUDA devices that the library can use; 0 without a driver or without GPU kernels in the build."""
    return _library.library().triage_cuda_device_count()


def last_kernel():
    """The kernel that served this thread's last successful operation, "" if none did."""
    return _library.library().triage_last_kernel().decode()


def kernels(device="cpu"):
    """Every kernel as seen from "cpu", "cuda" or "cuda:1": a list of dicts with name, operation, family, dtypes, can_run,
    reason and more."""
    name, _, index = str(device).partition(":")
    kinds = {"cpu": 1, "cuda": 2}
    if name not in kinds or (index and not index.isdigit()):
        raise _library.InvalidArgumentError(f"device is {device!r}, accepted: 'cpu', 'cuda' or 'cuda:1'")
    text = ctypes.c_char_p()
    library = _library.library()
    _library.check(library.triage_kernels_json(_library.Device(kinds[name], int(index or 0)), ctypes.addressof(text)))
    return json.loads(text.value)
