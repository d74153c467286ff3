// Online softmax (Milakov and Gimelshein, arXiv 1805.02867) of a warp's 16 rows, on accumulators as mma.sync and wgmma
// lay them out: of each tile of 8 columns a lane holds s[4j], s[4j + 1] of row lane / 4 and s[4j + 2], s[4j + 3] of row
// lane / 4 + 8. Four neighbouring lanes share a row.
#pragma once

#ifdef __CUDACC__
#include "ptx/special_functions.h"
#endif

namespace triage::device {

/// How products q k become tanh(product * scale), made on the host by `softcap_of`.
struct Softcap {
  float exponent;  ///< from products to e^2x = 2^(...); 0: no softcap
  float limit;     ///< products up to which the polynomial holds
  float odd[4];    ///< product * (odd[0] + odd[1] t + odd[2] t^2 + odd[3] t^3), t = product^2
};

/// @param softcap 0: none.
inline Softcap softcap_of(float softmax_scale, float softcap) {
  Softcap cap{};
  if (softcap <= 0.0f) return cap;
  const float scale = softmax_scale / softcap;
  cap.exponent = 2.0f * 1.4426950408889634f * scale;
  // tanh(x) / x in x^2, by Remez's exchange: relative error 1e-8 up to 0.3. Its terms must not leave fp32's range.
  constexpr float kEven[4] = {0.99999999f, -0.333329627f, 0.133125972f, -0.0502224393f}, kUpTo = 0.3f;
  if (scale < 1e-4f || scale > 1e4f) return cap;
  cap.limit = kUpTo / scale;
  float power = scale;
  for (int i = 0; i < 4; i++, power *= scale * scale) cap.odd[i] = kEven[i] * power;
  return cap;
}

#ifdef __CUDACC__

/// The state of two rows. Exponentials are taken to the base 2, of (logit - maximum) * scale_log2.
///
/// The maximum is a stale one: it moves only when a new logit exceeds it by more than kSlack (in powers of 2), because
/// moving it costs a pass over the output's accumulators. Exponentials then reach 2^kSlack, which float16 holds easily.
struct OnlineSoftmax {
  static constexpr float kSlack = 8.0f;
  /// Below every logit, and finite: masked logits (-inf) minus this are still -inf, not NaN.
  static constexpr float kLowest = -1e30f;

  float maximum[2];
  float sum[2];  ///< of this lane's columns alone until `reduce`

  __device__ __forceinline__ void reset() {
    maximum[0] = maximum[1] = kLowest;
    sum[0] = sum[1] = 0.0f;
  }

  /// Takes new logits into the maximum. Returns (the same to the whole warp) whether it moved: then the sums have been
  /// scaled by `factor`, and the accumulators of the output need to be.
  template <int kCount>
  __device__ __forceinline__ bool advance(const float (&s)[kCount], float scale_log2, float (&factor)[2]) {
    float high[2] = {maximum[0], maximum[1]};
    lane_maximum(s, high);
    // Each lane votes on its own columns: the shuffles, which put this on the critical path, then rarely run.
    const bool moved = __any_sync(0xffffffffu, fmaxf(high[0] - maximum[0], high[1] - maximum[1]) * scale_log2 > kSlack);
    if (moved) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        high[i] = fmaxf(high[i], __shfl_xor_sync(0xffffffffu, high[i], 1));
        high[i] = fmaxf(high[i], __shfl_xor_sync(0xffffffffu, high[i], 2));
        factor[i] = ptx::exp2_approx((maximum[i] - high[i]) * scale_log2);
        maximum[i] = high[i];
        sum[i] *= factor[i];
      }
    }
    return moved;
  }

  /// Logits become exponentials, and are added to the sums.
  template <int kCount>
  __device__ __forceinline__ void exponentiate(float (&s)[kCount], float scale_log2) {
    const float shift[2] = {maximum[0] * scale_log2, maximum[1] * scale_log2};
    float even[2] = {0.0f, 0.0f}, odd[2] = {0.0f, 0.0f};  // two chains of additions a row
#pragma unroll
    for (int i = 0; i < kCount; i++) {
      s[i] = ptx::exp2_approx(fmaf(s[i], scale_log2, -shift[i / 2 % 2]));
      (i / 4 % 2 == 0 ? even : odd)[i / 2 % 2] += s[i];
    }
#pragma unroll
    for (int i = 0; i < 2; i++) sum[i] += even[i] + odd[i];
  }

  /// Sums of whole rows. Call once, at the end.
  __device__ __forceinline__ void reduce() {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 1);
      sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 2);
    }
  }

  /// What the output's row i is multiplied by at the end, and the natural logarithm of its sum, with the sink's logit
  /// (in natural units) taken in; `sink` -inf: none. A row without keys gets 0 and -inf (or the sink).
  __device__ __forceinline__ float finish(int i, float scale_log2, float sink, float& lse) const {
    constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;
    float top = maximum[i] * scale_log2, total = sum[i], weight = 1.0f;
    if (sink != -INFINITY) {
      const float sink_log2 = sink * kLog2E;
      if (sink_log2 > top) {  // keep the exponentials below 1
        weight = ptx::exp2_approx(top - sink_log2);
        total *= weight;
        top = sink_log2;
      }
      total += ptx::exp2_approx(sink_log2 - top);
    }
    lse = total == 0.0f ? -INFINITY : (top + ptx::log2_approx(total)) * kLn2;
    return total == 0.0f ? 0.0f : weight * ptx::reciprocal_approx(total);
  }

 private:
  template <int kCount>
  static __device__ __forceinline__ void lane_maximum(const float (&s)[kCount], float (&high)[2]) {
    static_assert(kCount % 8 == 0, "pairs of tiles of 8 columns");
    float other[2] = {fmaxf(s[4], s[5]), fmaxf(s[6], s[7])};  // a second chain a row
#pragma unroll
    for (int j = 0; j < kCount; j += 8) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        high[i] = fmaxf(high[i], fmaxf(s[j + 2 * i], s[j + 2 * i + 1]));
        if (j > 0) other[i] = fmaxf(other[i], fmaxf(s[j + 4 + 2 * i], s[j + 4 + 2 * i + 1]));
      }
    }
#pragma unroll
    for (int i = 0; i < 2; i++) high[i] = fmaxf(high[i], other[i]);
  }
};

/// Products q k through tanh, as softcap wants them; the caller folds the cap itself into scale_log2. Exact to some
/// 1e-7 of the logit (tanh.approx would err by 5e-4 of it). Where all of a warp's logits are below 0.3 of the cap, as
/// they mostly are, a polynomial does it, because the special function unit is already busy with softmax's
/// exponentials.
template <int kCount>
__device__ __forceinline__ void cap_logits(float (&s)[kCount], const Softcap& cap) {
  const auto small = [&](float x) {
    const float t = x * x;
    return x * fmaf(fmaf(fmaf(cap.odd[3], t, cap.odd[2]), t, cap.odd[1]), t, cap.odd[0]);
  };
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < kCount; i++) largest = fmaxf(largest, fabsf(s[i]));
  if (__all_sync(0xffffffffu, largest <= cap.limit)) {
#pragma unroll
    for (int i = 0; i < kCount; i++) s[i] = small(s[i]);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; i++) {  // 1 - 2 / (1 + e^2x) errs by 1e-7 of the cap: too much for small logits
      const float large = fmaf(-2.0f, ptx::reciprocal_approx(1.0f + ptx::exp2_approx(s[i] * cap.exponent)), 1.0f);
      s[i] = fabsf(s[i]) <= cap.limit ? small(s[i]) : large;
    }
  }
}

#endif  // __CUDACC__

}  // namespace triage::device
