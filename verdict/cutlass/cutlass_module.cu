// Three kernels that CUTLASS's users get from its own templates: the dense GEMM for Ampere (mma.sync) and for Hopper
// (TMA, wgmma, two cooperating consumers), and the Blocked-ELL GEMM in the configuration of its example 43.
#include "verdict/cutlass_module.h"

#include <cutlass/cutlass.h>
#include <cutlass/epilogue/thread/linear_combination.h>
#include <cutlass/gemm/device/ell_gemm.h>
#include <cutlass/gemm/device/gemm_universal.h>
#include <cutlass/version.h>

#include <type_traits>

#if TRIAGE_HAS_SM90
#include <cutlass/gemm/device/gemm_universal_adapter.h>
#include <cute/tensor.hpp>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>
#include <cutlass/util/packed_stride.hpp>
#endif

#if TRIAGE_HAS_SM90
// Outside of templates and namespaces, where the host compiler understands what nvcc makes of them.
using HopperTile = cute::Shape<cute::_128, cute::_256, cute::_64>;
using HopperCluster = cute::Shape<cute::_2, cute::_1, cute::_1>;
using HopperStore = typename cutlass::epilogue::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, HopperTile, HopperCluster,
    cutlass::epilogue::collective::EpilogueTileAuto, float, float, cutlass::half_t, cutlass::layout::RowMajor, 8,
    cutlass::half_t, cutlass::layout::RowMajor, 8, cutlass::epilogue::TmaWarpSpecializedCooperative>::CollectiveOp;
using HopperStages =
    cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename HopperStore::SharedStorage))>;
using HopperMultiplyRow = typename cutlass::gemm::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, cutlass::half_t, cutlass::layout::RowMajor, 8, cutlass::half_t,
    cutlass::layout::RowMajor, 8, float, HopperTile, HopperCluster, HopperStages,
    cutlass::gemm::KernelTmaWarpSpecializedCooperative>::CollectiveOp;
using HopperMultiplyColumn = typename cutlass::gemm::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, cutlass::half_t, cutlass::layout::RowMajor, 8, cutlass::half_t,
    cutlass::layout::ColumnMajor, 8, float, HopperTile, HopperCluster, HopperStages,
    cutlass::gemm::KernelTmaWarpSpecializedCooperative>::CollectiveOp;
using HopperKernelRow =
    cutlass::gemm::kernel::GemmUniversal<cute::Shape<int, int, int, int>, HopperMultiplyRow, HopperStore>;
using HopperKernelColumn =
    cutlass::gemm::kernel::GemmUniversal<cute::Shape<int, int, int, int>, HopperMultiplyColumn, HopperStore>;
using HopperGemmRow = cutlass::gemm::device::GemmUniversalAdapter<HopperKernelRow>;
using HopperGemmColumn = cutlass::gemm::device::GemmUniversalAdapter<HopperKernelColumn>;
#endif

namespace {

using Half = cutlass::half_t;
using RowMajor = cutlass::layout::RowMajor;
using ColumnMajor = cutlass::layout::ColumnMajor;
using Epilogue = cutlass::epilogue::thread::LinearCombination<Half, 8, float, float>;

const char* sentence(cutlass::Status status) {
  return status == cutlass::Status::kSuccess ? nullptr : cutlass::cutlassGetStatusString(status);
}

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

// Ampere.

template <class LayoutB>
using AmpereGemm = cutlass::gemm::device::GemmUniversal<
    Half, RowMajor, Half, LayoutB, Half, RowMajor, float, cutlass::arch::OpClassTensorOp, cutlass::arch::Sm80,
    cutlass::gemm::GemmShape<128, 256, 32>, cutlass::gemm::GemmShape<64, 64, 32>, cutlass::gemm::GemmShape<16, 8, 16>,
    Epilogue, cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<8>, 3, 8, 8>;

template <class LayoutB>
typename AmpereGemm<LayoutB>::Arguments ampere_arguments(const TriageCutlassGemm& call) {
  const int m = static_cast<int>(call.m), n = static_cast<int>(call.n), k = static_cast<int>(call.k);
  return {cutlass::gemm::GemmUniversalMode::kGemm,
          {m, n, k},
          1,
          {1.0f, 0.0f},
          call.a,
          call.b,
          call.d,
          call.d,
          call.m * call.k,
          call.k * call.n,
          call.m * call.n,
          call.m * call.n,
          k,
          call.b_transposed ? k : n,
          n,
          n};
}

template <class LayoutB>
const char* run_ampere(const TriageCutlassGemm& call) {
  AmpereGemm<LayoutB> gemm;
  const auto arguments = ampere_arguments<LayoutB>(call);
  if (const char* why = sentence(gemm.can_implement(arguments))) return why;
  return sentence(gemm(arguments, call.workspace, stream_of(call.stream)));
}

#if TRIAGE_HAS_SM90
template <class Gemm>
typename Gemm::Arguments hopper_arguments(const TriageCutlassGemm& call) {
  using Kernel = typename Gemm::GemmKernel;
  const int m = static_cast<int>(call.m), n = static_cast<int>(call.n), k = static_cast<int>(call.k);
  const auto stride_a = cutlass::make_cute_packed_stride(typename Kernel::StrideA{}, {m, k, 1});
  const auto stride_b = cutlass::make_cute_packed_stride(typename Kernel::StrideB{}, {n, k, 1});
  const auto stride_d = cutlass::make_cute_packed_stride(typename Kernel::StrideD{}, {m, n, 1});
  return {cutlass::gemm::GemmUniversalMode::kGemm,
          {m, n, k, 1},
          {static_cast<const Half*>(call.a), stride_a, static_cast<const Half*>(call.b), stride_b},
          {{1.0f, 0.0f}, static_cast<const Half*>(call.d), stride_d, static_cast<Half*>(call.d), stride_d}};
}

template <class Gemm>
const char* run_hopper(const TriageCutlassGemm& call) {
  Gemm gemm;
  const auto arguments = hopper_arguments<Gemm>(call);
  if (const char* why = sentence(gemm.can_implement(arguments))) return why;
  if (const char* why = sentence(gemm.initialize(arguments, call.workspace, stream_of(call.stream)))) return why;
  return sentence(gemm.run(stream_of(call.stream)));
}
#endif

// Example 43's types: A row-major, B and C column-major, A sparse.
using EllGemm = cutlass::gemm::device::EllGemm<
    Half, RowMajor, Half, ColumnMajor, Half, ColumnMajor, float, cutlass::arch::OpClassTensorOp, cutlass::arch::Sm80,
    cutlass::gemm::GemmShape<128, 128, 32>, cutlass::gemm::GemmShape<64, 64, 32>, cutlass::gemm::GemmShape<16, 8, 16>,
    Epilogue, cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<>, 4, 8, 8>;

}  // namespace

#define TRIAGE_EXPORT extern "C" __attribute__((visibility("default")))

TRIAGE_EXPORT const char* triage_cutlass_version() {
#define TRIAGE_TEXT(x) #x
#define TRIAGE_VERSION_TEXT(a, b, c) TRIAGE_TEXT(a) "." TRIAGE_TEXT(b) "." TRIAGE_TEXT(c)
  return TRIAGE_VERSION_TEXT(CUTLASS_MAJOR, CUTLASS_MINOR, CUTLASS_PATCH);
}

TRIAGE_EXPORT const char* triage_cutlass_gemm(const TriageCutlassGemm* call, int hopper) {
#if TRIAGE_HAS_SM90
  if (hopper) return call->b_transposed ? run_hopper<HopperGemmColumn>(*call) : run_hopper<HopperGemmRow>(*call);
#else
  if (hopper) return "this build holds no code for 9.0a";
#endif
  return call->b_transposed ? run_ampere<ColumnMajor>(*call) : run_ampere<RowMajor>(*call);
}

TRIAGE_EXPORT std::size_t triage_cutlass_gemm_workspace(const TriageCutlassGemm* call, int hopper) {
#if TRIAGE_HAS_SM90
  if (hopper) {
    return call->b_transposed ? HopperGemmColumn::get_workspace_size(hopper_arguments<HopperGemmColumn>(*call))
                              : HopperGemmRow::get_workspace_size(hopper_arguments<HopperGemmRow>(*call));
  }
#endif
  (void)hopper;
  return call->b_transposed ? AmpereGemm<ColumnMajor>::get_workspace_size(ampere_arguments<ColumnMajor>(*call))
                            : AmpereGemm<RowMajor>::get_workspace_size(ampere_arguments<RowMajor>(*call));
}

TRIAGE_EXPORT const char* triage_cutlass_ell(const TriageCutlassEll* call) {
  const int m = static_cast<int>(call->m), n = static_cast<int>(call->n), k = static_cast<int>(call->k);
  const int stored = static_cast<int>(call->width) * call->block;
  EllGemm gemm;
  const EllGemm::Arguments arguments({m, n, k}, {static_cast<const Half*>(call->a), stored},
                                     {static_cast<const Half*>(call->b), k}, {static_cast<const Half*>(call->d), m},
                                     {static_cast<Half*>(call->d), m}, call->columns, stored, call->block, 0,
                                     {1.0f, 0.0f});
  if (const char* why = sentence(EllGemm::can_implement(arguments))) return why;
  return sentence(gemm(arguments, nullptr, stream_of(call->stream)));
}
