#!/usr/bin/env python3
"""The CPU backend beside NumPy's BLAS (the dense product) and SciPy's `bsr_array @ dense`, in one process, in turns.

    pip install numpy scipy
    cmake --build build/cpu --target triage
    python3 bench/cpu_baseline.py build/cpu

GFLOP/s count nonzero blocks for Triage and SciPy, everything for the dense product. `ratio` is Triage's rate over the
dense product's: sparse wins below that density. Times are medians. On a machine that does other work, --busy compares one
thread of each by processor time.
"""
import argparse
import ctypes
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

BUSY = "--busy" in sys.argv
if BUSY:
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402  (reads the environment when it is loaded)
import scipy.sparse  # noqa: E402


class DLTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
                ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
                ("byte_offset", ctypes.c_uint64)]


def dltensor(array):
    """A view of a C-contiguous array; keeps the array alive."""
    code = {"i": 0, "f": 2}[array.dtype.kind]
    shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    tensor = DLTensor(array.ctypes.data, 1, 0, array.ndim, code, array.dtype.itemsize * 8, 1, shape, None, 0)
    tensor.keep = (array, shape)
    return tensor


class Workspace(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]


class Triage:
    """The C ABI (include/triage/c_api.h) of a build's static library, through a shared one made of it."""

    def __init__(self, build):
        archive = pathlib.Path(build) / "src" / "libtriage.a"
        self.folder = tempfile.TemporaryDirectory()
        shared = os.path.join(self.folder.name, "libtriage_c.so")
        subprocess.run([os.environ.get("CXX", "g++"), "-shared", "-fopenmp", "-o", shared, "-Wl,--whole-archive",
                        str(archive), "-Wl,--no-whole-archive", "-lpthread", "-ldl", "-lrt"], check=True)
        self.library = ctypes.CDLL(shared)
        self.library.triage_last_error.restype = ctypes.c_char_p

    def call(self, name, *arguments):
        if getattr(self.library, name)(*arguments) != 0:
            raise RuntimeError(self.library.triage_last_error().decode())

    def pattern(self, crow, col, rows, cols, block):
        handle = ctypes.c_void_p()
        self.call("triage_pattern_from_bsr", ctypes.byref(dltensor(crow)), ctypes.byref(dltensor(col)),
                  ctypes.c_int64(rows), ctypes.c_int64(cols), block, None, ctypes.byref(handle))
        return handle

    def product(self, operation, pattern, tensors):
        """A function that runs `operation` ("spmm": values, b, c; "linear": values, x, bias or None, y)."""
        views = [t if t is None else dltensor(t) for t in tensors]
        pointers = [None if v is None else ctypes.byref(v) for v in views]
        options = None  # the defaults
        size = ctypes.c_size_t()
        self.call(f"triage_{operation}_workspace_bytes", pattern, *pointers, options, ctypes.byref(size))
        memory = ctypes.create_string_buffer(size.value + 256)
        workspace = Workspace((ctypes.addressof(memory) + 255) // 256 * 256, size.value)

        def run():
            self.call(f"triage_{operation}", pattern, *pointers, options, ctypes.byref(workspace), None)

        run.keep = (views, memory)
        return run


def random_bsr(rng, rows, cols, block, density):
    mask = rng.random((rows // block, cols // block)) < density
    crow = np.concatenate([[0], np.cumsum(mask.sum(axis=1))]).astype(np.int32)
    col = np.nonzero(mask)[1].astype(np.int32)
    values = rng.standard_normal((len(col), block, block), dtype=np.float32)
    return crow, col, values


def medians(functions, seconds):
    """Median time of each function, called in turns, with pauses in which the idle threads of the other fall asleep (OpenBLAS's
    spin for some 30 ms after their work)."""
    clock = time.process_time if BUSY else time.perf_counter
    times = [[] for _ in functions]
    for function in functions:
        function()
    end = clock() + seconds
    while clock() < end or len(times[0]) < 5:
        for function, own in zip(functions, times):
            time.sleep(0.05)
            function()  # wakes threads and caches
            start = clock()
            function()
            own.append(clock() - start)
    return [statistics.median(own) for own in times]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="build folder that holds src/libtriage.a")
    parser.add_argument("--size", type=int, default=2048, help="rows and columns of the sparse matrix")
    parser.add_argument("--density", type=float, nargs="*", default=[0.25, 0.05])
    parser.add_argument("--block", type=int, nargs="*", default=[16, 32, 64, 128])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line")
    parser.add_argument("--no-scipy", action="store_true")
    parser.add_argument("--busy", action="store_true")
    arguments = parser.parse_args()

    triage = Triage(arguments.build)
    rng = np.random.default_rng(1)
    size = arguments.size
    print(f"{'operation':10} {'block':>5} {'density':>7} {'dense N':>7} {'triage ms':>10} {'GFLOP/s':>8} "
          f"{'BLAS ms':>9} {'GFLOP/s':>8} {'ratio':>6} {'SciPy ms':>9} {'x SciPy':>7}", flush=True)
    for operation, n in (("spmm", size), ("linear", 512), ("linear", 16), ("linear", 1)):
        for density in arguments.density:
            for block in arguments.block:
                crow, col, values = random_bsr(rng, size, size, block, density)
                sparse = scipy.sparse.bsr_array((values, col, crow), shape=(size, size))
                dense = sparse.toarray()
                pattern = triage.pattern(crow, col, size, size, block)
                if operation == "spmm":
                    b = rng.standard_normal((size, n), dtype=np.float32)
                    out, blas_out = np.empty((size, n), np.float32), np.empty((size, n), np.float32)
                    ours = triage.product("spmm", pattern, (values, b, out))
                    functions = [ours, lambda: np.matmul(dense, b, out=blas_out), lambda: sparse @ b]
                else:
                    x = rng.standard_normal((n, size), dtype=np.float32)
                    out, blas_out = np.empty((n, size), np.float32), np.empty((n, size), np.float32)
                    xt = np.ascontiguousarray(x.T)
                    ours = triage.product("linear", pattern, (values, x, None, out))
                    functions = [ours, lambda: np.matmul(x, dense.T, out=blas_out), lambda: sparse @ xt]
                if arguments.no_scipy:
                    functions.pop()
                times = medians(functions, arguments.seconds)
                error = np.linalg.norm(out - blas_out) / np.linalg.norm(blas_out)
                assert error < 1e-5, f"wrong by {error}"
                flops = 2.0 * len(col) * block * block * n
                own, blas = flops / times[0] / 1e9, 2.0 * size * size * n / times[1] / 1e9
                scipy_text = "" if arguments.no_scipy else f"{times[2] * 1e3:9.2f} {times[2] / times[0]:7.1f}"
                print(f"{operation:10} {block:5} {len(col) * block * block / size / size:7.3f} {n:7} {times[0] * 1e3:10.3f} "
                      f"{own:8.1f} {times[1] * 1e3:9.3f} {blas:8.1f} {own / blas:6.2f} {scipy_text}", flush=True)


if __name__ == "__main__":
    main()
