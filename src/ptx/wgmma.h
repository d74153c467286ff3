// wgmma: asynchronous matrix multiply-accumulate of a warpgroup on operands in shared memory (target sm_90a).
//
// d[64, N] += a[64, 16] * b[16, N], 16-bit operands, fp32 accumulation. Lane l of warp w holds, with g = l / 4 and t = l % 4,
// for each tile j of 8 columns: d[4j], d[4j + 1]: row 16w + g, columns 8j + 2t, 8j + 2t + 1; d[4j + 2], d[4j + 3]: row + 8.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace triage::ptx {

/// How an operand lies in shared memory. K-major: the elements of one row (of A) or column (of B) follow each other.
/// MN-major: the elements of one k follow each other.
enum class Major : int { k = 0, mn = 1 };

/// Bytes of a swizzled row; 16-byte chunk c of row r lies at chunk c ^ (r / (128 / row bytes) % (row bytes / 16)).
enum class Swizzle : int { bytes128 = 1, bytes64 = 2, bytes32 = 3 };

__host__ __device__ constexpr Swizzle swizzle_of(int row_bytes) {
  return row_bytes == 128 ? Swizzle::bytes128 : row_bytes == 64 ? Swizzle::bytes64 : Swizzle::bytes32;
}

/// Where byte `16 * chunk` of row `row` lies in a tile of rows of `kRowBytes` (32, 64 or 128).
template <int kRowBytes>
__host__ __device__ constexpr int swizzled_offset(int row, int chunk) {
  return row * kRowBytes + ((chunk ^ (row / (128 / kRowBytes) % (kRowBytes / 16))) * 16);
}

/// The upper word of a matrix descriptor, which does not change while a kernel walks through a tile.
/// @param stride_bytes from one group of 8 rows (K-major) or 8 values of k (MN-major) to the next.
__host__ __device__ constexpr std::uint32_t descriptor_upper(int stride_bytes, Swizzle swizzle) {
  return static_cast<std::uint32_t>(stride_bytes >> 4) | static_cast<std::uint32_t>(swizzle) << 30;
}

/// The lower word: adding n to it moves the operand by 16 n bytes (below 256 KB nothing carries over). In a cluster, shared
/// addresses carry the rank of the CTA above their 18 bits; it must not get into the field above.
/// @param leading_bytes MN-major: from one run of swizzled-row elements to the next; unused otherwise.
__device__ __forceinline__ std::uint32_t descriptor_lower(std::uint32_t shared_address, int leading_bytes = 16) {
  return (shared_address >> 4 & 0x3fff) | static_cast<std::uint32_t>(leading_bytes >> 4) << 16;
}

__device__ __forceinline__ std::uint64_t descriptor(std::uint32_t upper, std::uint32_t lower) {
  return static_cast<std::uint64_t>(upper) << 32 | lower;
}

/// Registers and shared memory written before are visible to the wgmma after.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Waits until at most `kPending` committed groups are unfinished.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Keeps the compiler from moving reads of accumulators to before the wait.
template <int kCount>
__device__ __forceinline__ void wgmma_settle(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; i++) asm volatile("" : "+f"(d[i])::"memory");
}

/// @tparam kN 8, 16, 32, 64, 80, 96, 128, 192 or 256. @param accumulate false: d = a * b.
template <typename Element, int kN, Major kMajorA, Major kMajorB>
__device__ __forceinline__ void wgmma(float (&d)[kN / 2], std::uint64_t a, std::uint64_t b, bool accumulate = true);

/// The same with A in registers: lane l of warp w holds rows 16w + g (a[0], a[2]) and 16w + g + 8 (a[1], a[3]), columns 2t,
/// 2t + 1 (a[0], a[1]) and 2t + 8, 2t + 9 (a[2], a[3]): two neighbouring tiles of the accumulator's layout, packed.
template <typename Element, int kN, Major kMajorB>
__device__ __forceinline__ void wgmma_registers(float (&d)[kN / 2], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                                                std::uint32_t a3, std::uint64_t b, bool accumulate = true);

// The instruction's text: register lists and constraints are spelled by macros, one specialisation per N and type.
#define WGMMA_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WGMMA_D8(i) WGMMA_D4(i), WGMMA_D4(i + 4)
#define WGMMA_D16(i) WGMMA_D8(i), WGMMA_D8(i + 8)
#define WGMMA_D32(i) WGMMA_D16(i), WGMMA_D16(i + 16)
#define WGMMA_D64(i) WGMMA_D32(i), WGMMA_D32(i + 32)
#define WGMMA_D128(i) WGMMA_D64(i), WGMMA_D64(i + 64)
#define WGMMA_D40(i) WGMMA_D32(i), WGMMA_D8(i + 32)
#define WGMMA_D48(i) WGMMA_D32(i), WGMMA_D16(i + 32)
#define WGMMA_D96(i) WGMMA_D64(i), WGMMA_D32(i + 64)
#define WGMMA_R4 "%0, %1, %2, %3"
#define WGMMA_R8 \
  WGMMA_R4 ", %4, %5, %6, %7"
#define WGMMA_R16 \
  WGMMA_R8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define WGMMA_R32 \
  WGMMA_R16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_R40 \
  WGMMA_R32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define WGMMA_R48 \
  WGMMA_R40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define WGMMA_R64 \
  WGMMA_R32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51" \
  ", %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_R96 \
  WGMMA_R64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83" \
  ", %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define WGMMA_R128 \
  WGMMA_R96 ", %96, %97, %98, %99, %100, %101, %102" \
  ", %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118" \
  ", %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define WGMMA_ISSUE(n, count, a_index, b_index, scale_index, major_a_index, major_b_index, type)                     \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" scale_index ", 0;\n"                                              \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" WGMMA_R##count "}, %" a_index      \
               ", %" b_index ", p, 1, 1, %" major_a_index ", %" major_b_index ";\n}"                                   \
               : WGMMA_D##count(0)                                                                                     \
               : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kMajorA)),                    \
                 "n"(static_cast<int>(kMajorB)))
#define WGMMA_BOTH(n, count, a_index, b_index, scale_index, major_a_index, major_b_index)                              \
  if constexpr (std::is_same_v<Element, __half>) {                                                                     \
    WGMMA_ISSUE(n, count, a_index, b_index, scale_index, major_a_index, major_b_index, "f16");                         \
  } else {                                                                                                             \
    WGMMA_ISSUE(n, count, a_index, b_index, scale_index, major_a_index, major_b_index, "bf16");                        \
  }

template <typename Element, int kN, Major kMajorA, Major kMajorB>
__device__ __forceinline__ void wgmma(float (&d)[kN / 2], std::uint64_t a, std::uint64_t b, bool accumulate) {
  static_assert(std::is_same_v<Element, __half> || std::is_same_v<Element, __nv_bfloat16>, "wgmma: fp16 or bf16");
  static_assert(kN == 8 || kN == 16 || kN == 32 || kN == 64 || kN == 80 || kN == 96 || kN == 128 || kN == 192 || kN == 256,
                "wgmma: N is 8, 16, 32, 64, 80, 96, 128, 192 or 256");
  if constexpr (kN == 8) {
    WGMMA_BOTH(8, 4, "4", "5", "6", "7", "8");
  } else if constexpr (kN == 16) {
    WGMMA_BOTH(16, 8, "8", "9", "10", "11", "12");
  } else if constexpr (kN == 32) {
    WGMMA_BOTH(32, 16, "16", "17", "18", "19", "20");
  } else if constexpr (kN == 64) {
    WGMMA_BOTH(64, 32, "32", "33", "34", "35", "36");
  } else if constexpr (kN == 80) {
    WGMMA_BOTH(80, 40, "40", "41", "42", "43", "44");
  } else if constexpr (kN == 96) {
    WGMMA_BOTH(96, 48, "48", "49", "50", "51", "52");
  } else if constexpr (kN == 192) {
    WGMMA_BOTH(192, 96, "96", "97", "98", "99", "100");
  } else if constexpr (kN == 128) {
    WGMMA_BOTH(128, 64, "64", "65", "66", "67", "68");
  } else if constexpr (kN == 256) {
    WGMMA_BOTH(256, 128, "128", "129", "130", "131", "132");
  }
}

#undef WGMMA_BOTH
#undef WGMMA_ISSUE

#define WGMMA_ISSUE(n, count, a0_index, a1_index, a2_index, a3_index, b_index, scale_index, major_b_index, type)      \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" scale_index ", 0;\n"                                              \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" WGMMA_R##count "}, {%" a0_index   \
               ", %" a1_index ", %" a2_index ", %" a3_index "}, %" b_index ", p, 1, 1, %" major_b_index ";\n}"         \
               : WGMMA_D##count(0)                                                                                    \
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(static_cast<int>(accumulate)),                       \
                 "n"(static_cast<int>(kMajorB)))
#define WGMMA_BOTH(n, count, a0_index, a1_index, a2_index, a3_index, b_index, scale_index, major_b_index)             \
  if constexpr (std::is_same_v<Element, __half>) {                                                                    \
    WGMMA_ISSUE(n, count, a0_index, a1_index, a2_index, a3_index, b_index, scale_index, major_b_index, "f16");        \
  } else {                                                                                                            \
    WGMMA_ISSUE(n, count, a0_index, a1_index, a2_index, a3_index, b_index, scale_index, major_b_index, "bf16");       \
  }

template <typename Element, int kN, Major kMajorB>
__device__ __forceinline__ void wgmma_registers(float (&d)[kN / 2], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                                                std::uint32_t a3, std::uint64_t b, bool accumulate) {
  static_assert(std::is_same_v<Element, __half> || std::is_same_v<Element, __nv_bfloat16>, "wgmma: fp16 or bf16");
  static_assert(kN == 64 || kN == 96 || kN == 128 || kN == 192 || kN == 256, "wgmma_registers: N is 64, 96, 128, 192 or 256");
  if constexpr (kN == 64) {
    WGMMA_BOTH(64, 32, "32", "33", "34", "35", "36", "37", "38");
  } else if constexpr (kN == 96) {
    WGMMA_BOTH(96, 48, "48", "49", "50", "51", "52", "53", "54");
  } else if constexpr (kN == 128) {
    WGMMA_BOTH(128, 64, "64", "65", "66", "67", "68", "69", "70");
  } else if constexpr (kN == 192) {
    WGMMA_BOTH(192, 96, "96", "97", "98", "99", "100", "101", "102");
  } else if constexpr (kN == 256) {
    WGMMA_BOTH(256, 128, "128", "129", "130", "131", "132", "133", "134");
  }
}

#undef WGMMA_BOTH
#undef WGMMA_ISSUE
#undef WGMMA_R4
#undef WGMMA_R8
#undef WGMMA_R16
#undef WGMMA_R32
#undef WGMMA_R40
#undef WGMMA_R48
#undef WGMMA_R64
#undef WGMMA_R96
#undef WGMMA_R128
#undef WGMMA_D4
#undef WGMMA_D8
#undef WGMMA_D16
#undef WGMMA_D32
#undef WGMMA_D40
#undef WGMMA_D48
#undef WGMMA_D64
#undef WGMMA_D96
#undef WGMMA_D128

}  // namespace triage::ptx
