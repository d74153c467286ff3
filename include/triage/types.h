// Types that every operation of the public API shares. Needs neither CUDA's nor Torch's headers.
#pragma once

#include <dlpack/dlpack.h>

#include <cstddef>
#include <cstdint>

namespace triage {

/// A CUDA stream (`cudaStream_t`) as an opaque pointer; nullptr is the legacy default stream.
/// Ignored for tensors in host memory.
using Stream = void*;

/// Scratch memory owned by the caller, on the device of the tensors, aligned to 256 bytes. Its size comes
/// from the operation's `*_workspace_bytes` query; its content needs no initialisation and may be reused
/// as soon as the stream has passed the call.
struct Workspace {
  void* data = nullptr;
  std::size_t bytes = 0;
};

/// Elementwise function of `linear`'s epilogue. `gelu` is the exact (erf) form: x * Phi(x).
enum class Activation : int { none = 0, relu = 1, gelu = 2, silu = 3 };

/// How the values of a block-sparse matrix lie in memory.
enum class ValuesLayout : int {
  canonical = 0,  ///< [nnz_blocks, block, block] in the pattern's order, row-major inside a block
  packed = 1,     ///< what `prepack` wrote for the kernel that the library selects on this device
};

}  // namespace triage
