// BlackwellSparseK: products with a block-sparse matrix.
//
// Common to all operations: tensors are DLPack views in host or CUDA memory, all on the pattern's device; the inner
// stride is 1 and the outer stride is any number of elements not less than the row's length (a dimension of size 1
// may have any stride). dtypes: float16 and bfloat16 (fp32 accumulation), and on the CPU float32 and float64 as
// well; all tensors of one call share one dtype. A launch neither allocates nor synchronises and can be captured in a
// CUDA graph. Errors: Error(invalid_argument) for malformed arguments, Error(unsupported) where no kernel takes the
// problem on this device, Error(out_of_memory) for a workspace that is too small, Error(cuda). Kernels do not
// allocate: the workspace is the caller's, `*_workspace_bytes` says how much (0 is common). An output shares no byte
// with an input or the workspace. NaN and infinity in the inputs propagate. Sizes of 0 are legal and do nothing. A
// tensor's device field and a CUDA stream's device are believed, and so is the content of a CUDA pattern that was
// updated.
#pragma once

#include "triage/block_pattern.h"
#include "triage/types.h"

namespace triage {

struct SpmmOptions {
  float alpha = 1.0f;
  float beta = 0.0f;  ///< 0: C is write-only (NaN in it does not propagate)
  ValuesLayout values_layout = ValuesLayout::canonical;
};

/// C[M,N] = alpha * A[M,K] * B[K,N] + beta * C with A block-sparse: pattern `a` (rows M, cols K) and its `a_values`.
/// B and C are row-major. Empty rows of A give beta * C.
void spmm(const BlockPattern& a, const DLTensor& a_values, const DLTensor& b, const DLTensor& c,
          const SpmmOptions& options = {}, const Workspace& workspace = {}, Stream stream = nullptr);
std::size_t spmm_workspace_bytes(const BlockPattern& a, const DLTensor& a_values, const DLTensor& b, const DLTensor& c,
                                 const SpmmOptions& options = {});

struct LinearOptions {
  Activation activation = Activation::none;
  ValuesLayout values_layout = ValuesLayout::canonical;
};

/// Y[T,out] = activation(X[T,in] * W[out,in]^T + bias[out]) with W block-sparse: pattern `w` (rows out, cols in).
/// `bias` may be nullptr; it has the dtype of the other tensors.
void linear(const BlockPattern& w, const DLTensor& w_values, const DLTensor& x, const DLTensor* bias, const DLTensor& y,
            const LinearOptions& options = {}, const Workspace& workspace = {}, Stream stream = nullptr);
std::size_t linear_workspace_bytes(const BlockPattern& w, const DLTensor& w_values, const DLTensor& x,
                                   const DLTensor* bias, const DLTensor& y, const LinearOptions& options = {});

/// Which dense operands `sddmm` multiplies.
enum class SddmmLayout : int {
  x_yt = 0,  ///< X[M,D] * Y[N,D]^T
  xt_y = 1,  ///< X[D,M]^T * Y[D,N], e.g. a weight gradient dY^T * X
};

struct SddmmOptions {
  SddmmLayout layout = SddmmLayout::x_yt;
  float alpha = 1.0f;
  float beta = 0.0f;
};

/// values = alpha * (X * Y^T or X^T * Y at the blocks of `pattern`, M x N) + beta * values; values [nnz_blocks, block,
/// block]. Padding of ragged blocks becomes 0.
void sddmm(const BlockPattern& pattern, const DLTensor& x, const DLTensor& y, const DLTensor& values,
           const SddmmOptions& options = {}, const Workspace& workspace = {}, Stream stream = nullptr);
std::size_t sddmm_workspace_bytes(const BlockPattern& pattern, const DLTensor& x, const DLTensor& y,
                                  const DLTensor& values, const SddmmOptions& options = {});

/// Gradient of `linear` by X: dX[T,in] = dY[T,out] * W, with the pattern and the canonical values of W as `linear`
/// takes them; dY is the gradient by what `linear` computes before its activation. The product of the pattern's
/// transposed twin: the kernel is that of `linear`, and the blocks are turned on the way, into the workspace, on every
/// call.
/// @param dy [T, out], @param dx [T, in] (written).
void linear_backward_input(const BlockPattern& w, const DLTensor& w_values, const DLTensor& dy, const DLTensor& dx,
                           const Workspace& workspace = {}, Stream stream = nullptr);
std::size_t linear_backward_input_workspace_bytes(const BlockPattern& w, const DLTensor& w_values, const DLTensor& dy,
                                                  const DLTensor& dx);

/// Gradient of `linear` by the values of W: dW = dY^T X at the blocks of `w`, plus beta * what dw_values held (1:
/// accumulate). The same as `sddmm` with SddmmLayout::xt_y.
/// @param dw_values [nnz_blocks, block, block] (written); padding of ragged blocks becomes 0.
void linear_backward_weight(const BlockPattern& w, const DLTensor& dy, const DLTensor& x, const DLTensor& dw_values,
                            float beta = 0.0f, const Workspace& workspace = {}, Stream stream = nullptr);
std::size_t linear_backward_weight_workspace_bytes(const BlockPattern& w, const DLTensor& dy, const DLTensor& x,
                                                   const DLTensor& dw_values, float beta = 0.0f);

/// Gradient of `linear` by its bias: dbias[out] = sum over the tokens of dY[T,out], in fp32 (float64: double) and in a
/// fixed order. CUDA takes float16 and bfloat16.
void linear_backward_bias(const DLTensor& dy, const DLTensor& dbias, const Workspace& workspace = {},
                          Stream stream = nullptr);
std::size_t linear_backward_bias_workspace_bytes(const DLTensor& dy, const DLTensor& dbias);

/// Gradient of `spmm` by B: dB[K,N] = alpha * A^T * dC[M,N] + beta * dB; as linear_backward_input. Its gradient by the
/// values of A is `sddmm` of dC and B (SddmmLayout::x_yt).
/// @param options values_layout must be canonical.
void spmm_backward_b(const BlockPattern& a, const DLTensor& a_values, const DLTensor& dc, const DLTensor& db,
                     const SpmmOptions& options = {}, const Workspace& workspace = {}, Stream stream = nullptr);
std::size_t spmm_backward_b_workspace_bytes(const BlockPattern& a, const DLTensor& a_values, const DLTensor& dc,
                                            const DLTensor& db, const SpmmOptions& options = {});

/// The operation that packed values are for: kernels of different operations read different orders.
enum class PackedFor : int { spmm = 0, linear = 1 };

/// Rewrites canonical `values` into the order in which the selected kernel reads them (worth it when the values are
/// used more than once). `packed` has the shape, dtype and device of `values` and must not overlap it. The result
/// belongs to this pattern (until its next `update`), this operation and this device: pass it with
/// `ValuesLayout::packed`. Packed values are read by the kernel they were packed for and by no other; where that one
/// cannot run, the call is refused.
/// @throws Error(unsupported) if no kernel of this device has a packed layout.
void prepack(const BlockPattern& pattern, const DLTensor& values, const DLTensor& packed,
             PackedFor packed_for = PackedFor::linear, Stream stream = nullptr);

}  // namespace triage
