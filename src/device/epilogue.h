// From fp32 accumulators to 16-bit output: out = act(alpha * acc + beta * out + bias), in the layout of mma.sync.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "device/activation.h"

namespace triage::device {

/// What is done to the accumulators: alpha * acc + beta * out (spmm, sddmm), or act(acc + bias) (linear).
enum class Finish { scale, bias_activation };

/// Where accumulators go. Everything is the same for all threads of the grid.
struct Epilogue {
  void* out = nullptr;
  std::int64_t stride = 0;          ///< of out, in elements
  std::int64_t rows = 0, cols = 0;  ///< of out: what lies beyond is not written
  const void* bias = nullptr;       ///< [cols] or nullptr (bias_activation)
  float alpha = 1.0f, beta = 0.0f;  ///< scale; beta 0: out is not read
  Activation activation = Activation::none;
  bool aligned16 = false;           ///< out is 16-byte aligned and its stride a multiple of 8
};

__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename Element>
__device__ __forceinline__ Element from_float(float x);
template <>
__device__ __forceinline__ __half from_float<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

template <typename Element>
__device__ __forceinline__ std::uint32_t pack2(float low, float high);
template <>
__device__ __forceinline__ std::uint32_t pack2<__half>(float low, float high) {
  const __half2 h = __floats2half2_rn(low, high);
  return reinterpret_cast<const std::uint32_t&>(h);
}
template <>
__device__ __forceinline__ std::uint32_t pack2<__nv_bfloat16>(float low, float high) {
  const __nv_bfloat162 h = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const std::uint32_t&>(h);
}

/// Transposes a matrix of 4x4 words that lies across four neighbouring lanes: word w of lane t moves to word t of lane w.
__device__ __forceinline__ void transpose_across_quad(std::uint32_t (&words)[4], int t) {
#pragma unroll
  for (int step = 1; step <= 2; step *= 2) {
    const bool upper = (t & step) != 0;
#pragma unroll
    for (int low = 0; low < 4; low++) {
      if (low & step) continue;
      const std::uint32_t sent = upper ? words[low] : words[low + step];
      const std::uint32_t received = __shfl_xor_sync(0xffffffffu, sent, step);
      if (upper) {
        words[low] = received;
      } else {
        words[low + step] = received;
      }
    }
  }
}

/// Finishes kTiles (2 or 4) neighbouring accumulator tiles of 16x8 (see mma.h for who holds what), the first at
/// (row0, col0), and writes what lies inside of the output.
template <typename Element, Finish kFinish, int kTiles>
__device__ __forceinline__ void store_tiles(const Epilogue& e, std::int64_t row0, std::int64_t col0,
                                            const float (*acc)[4], int lane) {
  static_assert(kTiles == 2 || kTiles == 4, "store_tiles: two or four tiles at once");
  const int g = lane / 4, t = lane % 4;
  const bool whole = e.aligned16 && row0 + 16 <= e.rows && col0 + kTiles * 8 <= e.cols;
  // Element j of tile i lies at (row0 + g + (j / 2) * 8, col0 + i * 8 + t * 2 + j % 2).
  Element* const corner = static_cast<Element*>(e.out) + (row0 + g) * e.stride + col0 + t * 2;
  const int rows_left = static_cast<int>(min(e.rows - row0 - g, std::int64_t{16}));
  const int cols_left = static_cast<int>(min(e.cols - col0 - t * 2, std::int64_t{kTiles * 8}));
  const auto inside = [&](int i, int j) { return (j / 2) * 8 < rows_left && i * 8 + j % 2 < cols_left; };

  float x[kTiles * 4];
#pragma unroll
  for (int k = 0; k < kTiles * 4; k++) x[k] = acc[k / 4][k % 4];
  if constexpr (kFinish == Finish::scale) {
#pragma unroll
    for (int k = 0; k < kTiles * 4; k++) x[k] *= e.alpha;
    if (e.beta != 0.0f) {
#pragma unroll
      for (int k = 0; k < kTiles * 4; k++) {
        if (inside(k / 4, k % 4)) x[k] += e.beta * to_float(corner[(k % 4 / 2) * 8 * e.stride + k / 4 * 8 + k % 2]);
      }
    }
  } else {
    if (e.bias != nullptr) {
      const Element* const bias = static_cast<const Element*>(e.bias) + col0 + t * 2;
#pragma unroll
      for (int k = 0; k < kTiles * 2; k++) {
        const float b = k / 2 * 8 + k % 2 < cols_left ? to_float(bias[k / 2 * 8 + k % 2]) : 0.0f;
        x[k / 2 * 4 + k % 2] += b;
        x[k / 2 * 4 + k % 2 + 2] += b;
      }
    }
    activate(x, e.activation);
  }

#pragma unroll
  for (int half = 0; half < 2; half++) {  // rows g and g + 8
    Element* const row = corner + half * 8 * e.stride;
    std::uint32_t words[kTiles];
#pragma unroll
    for (int i = 0; i < kTiles; i++) words[i] = pack2<Element>(x[i * 4 + half * 2], x[i * 4 + half * 2 + 1]);
    if (!whole) {
#pragma unroll
      for (int k = 0; k < kTiles * 2; k++) {
        const std::uint16_t bits = static_cast<std::uint16_t>(words[k / 2] >> k % 2 * 16);
        if (inside(k / 2, half * 2 + k % 2)) reinterpret_cast<std::uint16_t*>(row)[k / 2 * 8 + k % 2] = bits;
      }
    } else if constexpr (kTiles == 4) {
      transpose_across_quad(words, t);
      reinterpret_cast<uint4*>(row - t * 2)[t] = make_uint4(words[0], words[1], words[2], words[3]);
    } else {
#pragma unroll
      for (int i = 0; i < kTiles; i++) reinterpret_cast<std::uint32_t*>(row)[i * 4] = words[i];
    }
  }
}

/// Stores kTiles neighbouring tiles: 2 or a multiple of 4.
template <typename Element, Finish kFinish, int kTiles>
__device__ __forceinline__ void store_strip(const Epilogue& e, std::int64_t row0, std::int64_t col0,
                                            const float (&acc)[kTiles][4], int lane) {
  constexpr int kGroup = kTiles % 4 == 0 ? 4 : 2;
  static_assert(kTiles % kGroup == 0, "store_strip: tiles go in groups of four or two");
#pragma unroll
  for (int first = 0; first < kTiles; first += kGroup) {
    store_tiles<Element, kFinish, kGroup>(e, row0, col0 + first * 8, &acc[first], lane);
  }
}

/// Writes kTiles neighbouring tiles as fp32, unfinished, into a row-major array whose first element is the first tile's.
template <int kTiles>
__device__ __forceinline__ void store_partial_strip(float* corner, std::int64_t stride, const float (&acc)[kTiles][4],
                                                    int lane) {
  float* const row = corner + lane / 4 * stride + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < kTiles; i++) {
    *reinterpret_cast<float2*>(row + i * 8) = make_float2(acc[i][0], acc[i][1]);
    *reinterpret_cast<float2*>(row + 8 * stride + i * 8) = make_float2(acc[i][2], acc[i][3]);
  }
}

/// Finishes one element that lies inside of the output and writes it.
template <typename Element, Finish kFinish>
__device__ __forceinline__ void store_element(const Epilogue& e, std::int64_t row, std::int64_t col, float x) {
  Element* const out = static_cast<Element*>(e.out) + row * e.stride + col;
  float one[1] = {x};
  if constexpr (kFinish == Finish::scale) {
    one[0] *= e.alpha;
    if (e.beta != 0.0f) one[0] += e.beta * to_float(*out);
  } else {
    if (e.bias != nullptr) one[0] += to_float(static_cast<const Element*>(e.bias)[col]);
    activate(one, e.activation);
  }
  *out = from_float<Element>(one[0]);
}

}  // namespace triage::device
