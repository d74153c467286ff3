// mma.sync: matrix multiply-accumulate of one warp on 16-bit operands with fp32 accumulation (sm_80 and later).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace triage::ptx {

/// d[16,8] += a[16,16] * b[16,8]. Lane l holds, with g = l / 4 and t = l % 4:
///   a: rows g (a0, a2) and g + 8 (a1, a3), columns 2t, 2t + 1 (a0, a1) and 2t + 8, 2t + 9 (a2, a3);
///   b: column g, rows 2t, 2t + 1 (b0) and 2t + 8, 2t + 9 (b1);
///   d: row g, columns 2t, 2t + 1 (d0, d1) and row g + 8 (d2, d3).
/// The assembly is volatile so that multiplications stay where the source has them among the loads.
template <typename Element>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                                             std::uint32_t a3, std::uint32_t b0, std::uint32_t b1);

template <>
__device__ __forceinline__ void mma_m16n8k16<__half>(float (&d)[4], std::uint32_t a0, std::uint32_t a1,
                                                     std::uint32_t a2, std::uint32_t a3, std::uint32_t b0,
                                                     std::uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

template <>
__device__ __forceinline__ void mma_m16n8k16<__nv_bfloat16>(float (&d)[4], std::uint32_t a0, std::uint32_t a1,
                                                            std::uint32_t a2, std::uint32_t a3, std::uint32_t b0,
                                                            std::uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

}  // namespace triage::ptx
