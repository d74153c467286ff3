// The backward oracle's loops (see attention_backward_oracle.h), compiled once per instruction set so that a check
// takes seconds. One pair of a query and a key at a time, everything computed anew for each.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "cpu/attention_backward_oracle.h"
#include "cpu/attention_kernels.h"
#include "cpu/pack.h"

namespace triage::cpu::TRIAGE_ISA {
namespace {

constexpr int kLanes8 = 8;  // head dimensions are multiples

template <class Storage>
class PairComputer {
 public:
  using Plain = Compute<Storage>;  // float, or double for float64
  using Exact = std::conditional_t<std::is_same_v<Storage, double>, long double, double>;

  PairComputer(const AttentionBackwardCall& call, std::int64_t b) : call_(call), forward_(call.forward), b_(b) {
    const AttentionProblem& p = forward_.problem;
    q_start_ = forward_.cu_seqlens_q == nullptr ? 0 : forward_.cu_seqlens_q[b];
    q_length_ = forward_.cu_seqlens_q == nullptr ? p.seqlen_q : forward_.cu_seqlens_q[b + 1] - q_start_;
    k_start_ = forward_.cu_seqlens_k == nullptr ? 0 : forward_.cu_seqlens_k[b];
    k_length_ = forward_.cu_seqlens_k == nullptr ? p.seqlen_k : forward_.cu_seqlens_k[b + 1] - k_start_;
  }

  void delta(const AttentionRow& row, AttentionDelta* result) {
    load_query(row.query, row.head);
    Plain o[kMaxHeadDim];
    widen_row(row_of(forward_.o, q_start_ + row.query, row.head), forward_.problem.head_dim_v, o);
    const Dot dot = product(d_o_, o, forward_.problem.head_dim_v);
    result->exact = dot.exact;
    result->plain = static_cast<double>(dot.plain);
    result->size = dot.size;
    if (call_.d_lse == nullptr) return;
    const float more =
        call_.d_lse[b_ * call_.d_lse_batch_stride + row.head * call_.d_lse_head_stride + q_start_ + row.query];
    result->exact -= static_cast<long double>(more);
    result->plain = static_cast<double>(dot.plain - static_cast<Plain>(more));
    result->size += std::fabs(static_cast<double>(more));
  }

  void query(const AttentionDelta* deltas, const AttentionRow& row, AttentionGradientRow* d_q) {
    const AttentionProblem& p = forward_.problem;
    *d_q = {};
    Sums sums;
    load_query(row.query, row.head);
    for (std::int64_t j = 0; j < k_length_; ++j) {
      if (!attends(row.query, j, row.head)) continue;
      load_key(j, row.head / (p.heads / p.kv_heads));
      const Pair pair = weigh(row.query, row.head, deltas[row.query * p.heads + row.head]);
      sums.add(k_, p.head_dim, pair.d_s, pair.plain_d_s, pair.d_s_error);
      ++d_q->pairs;
    }
    sums.finish(p.head_dim, forward_.softmax_scale, d_q);
  }

  void key(const AttentionDelta* deltas, const AttentionRow& row, AttentionGradientRow* d_k,
           AttentionGradientRow* d_v) {
    const AttentionProblem& p = forward_.problem;
    const std::int64_t group = p.heads / p.kv_heads;
    *d_k = *d_v = {};
    Sums keys, values;
    load_key(row.query, row.head);
    for (std::int64_t i = 0; i < q_length_; ++i) {
      for (std::int64_t head = row.head * group; head < (row.head + 1) * group; ++head) {
        if (!attends(i, row.query, head)) continue;
        load_query(i, head);
        const Pair pair = weigh(i, head, deltas[i * p.heads + head]);
        keys.add(q_, p.head_dim, pair.d_s, pair.plain_d_s, pair.d_s_error);
        values.add(d_o_, p.head_dim_v, pair.p, pair.plain_p, pair.p_error);
        ++d_k->pairs;
      }
    }
    d_v->pairs = d_k->pairs;
    keys.finish(p.head_dim, forward_.softmax_scale, d_k);
    values.finish(p.head_dim_v, 1.0f, d_v);
  }

 private:
  struct Dot {
    Exact exact;
    Plain plain;
    double size;  ///< |sum| and the root of the sum of squares
  };
  struct Pair {
    Exact p, d_s;
    Plain plain_p, plain_d_s;  ///< rounded to the dtype
    double p_error, d_s_error;
  };

  struct Sums {
    Exact exact[kMaxHeadDim] = {};
    Plain plain[kMaxHeadDim] = {};
    Exact squares[kMaxHeadDim] = {};  // of float64's small errors, beyond double's range

    void add(const Plain* row, int dim, Exact weight, Plain plain_weight, double error) {
      for (int c = 0; c < dim; ++c) {
        exact[c] += weight * static_cast<Exact>(row[c]);
        plain[c] += plain_weight * row[c];
        const Exact one = static_cast<Exact>(error) * static_cast<Exact>(row[c]);
        squares[c] += one * one;
      }
    }
    void finish(int dim, float scale, AttentionGradientRow* result) {
      Exact largest = 0;
      for (int c = 0; c < dim; ++c) {
        Storage rounded;
        narrow(plain[c] * static_cast<Plain>(scale), &rounded);
        result->plain[c] = static_cast<double>(widen(rounded));
        result->exact[c] = static_cast<double>(exact[c] * static_cast<Exact>(scale));
        largest = std::max(largest, squares[c]);
      }
      result->noise = static_cast<double>(std::sqrt(largest)) * static_cast<double>(scale);
    }
  };

  bool attends(std::int64_t i, std::int64_t j, std::int64_t head) const {
    const std::int64_t diagonal = i + k_length_ - q_length_;
    const std::int64_t left = forward_.problem.window_left, right = forward_.problem.window_right;
    const AttentionMask& mask = forward_.mask;
    if (mask.given()) {
      const std::int64_t row = (b_ * mask.batch_masks + head / mask.heads_per_mask) * mask.by_query.rows + i / 64;
      const std::int64_t column = j / 64;
      const auto has = [&](const std::uint32_t* bits) {
        return (bits[row * mask.by_query.row_words + column / 32] & (std::uint32_t{1} << (column % 32))) != 0;
      };
      if (!has(mask.by_query.listed)) return false;
      if (has(mask.by_query.full)) return true;
      const std::int64_t entry =
          mask.element_index == nullptr ? -1 : mask.element_index[row * mask.by_key.rows + column];
      if (entry >= 0 && (mask.elements[entry * 64 + i % 64] >> (j % 64)) % 2 == 0) return false;
    }
    return (left < 0 || j >= diagonal - left) && (right < 0 || j <= diagonal + right);
  }

  const Storage* row_of(const AttentionTensor& tensor, std::int64_t row, std::int64_t head) const {
    return static_cast<const Storage*>(tensor.data) + b_ * tensor.batch_stride + row * tensor.sequence_stride +
           head * tensor.head_stride;
  }
  void load_query(std::int64_t i, std::int64_t head) {
    widen_row(row_of(forward_.q, q_start_ + i, head), forward_.problem.head_dim, q_);
    widen_row(row_of(call_.d_o, q_start_ + i, head), forward_.problem.head_dim_v, d_o_);
  }
  void load_key(std::int64_t j, std::int64_t kv_head) {
    widen_row(row_of(forward_.k, k_start_ + j, kv_head), forward_.problem.head_dim, k_);
    widen_row(row_of(forward_.v, k_start_ + j, kv_head), forward_.problem.head_dim_v, v_);
  }

  static Dot product(const Plain* a, const Plain* b, int dim) {
    Exact sums[kLanes8] = {};
    Plain plain_sums[kLanes8] = {};
    double squares[kLanes8] = {};
    for (int d = 0; d < dim; d += kLanes8)
      for (int lane = 0; lane < kLanes8; ++lane) {
        sums[lane] += static_cast<Exact>(a[d + lane]) * static_cast<Exact>(b[d + lane]);
        plain_sums[lane] += a[d + lane] * b[d + lane];
        const double one = static_cast<double>(a[d + lane]) * static_cast<double>(b[d + lane]);
        squares[lane] += one * one;
      }
    Dot dot{0, 0, 0};
    for (int lane = 0; lane < kLanes8; ++lane) {
      dot.exact += sums[lane];
      dot.plain += plain_sums[lane];
      dot.size += squares[lane];
    }
    dot.size = std::sqrt(dot.size) + std::fabs(static_cast<double>(dot.exact));
    return dot;
  }

  static Plain rounded(Plain weight) {
    Storage stored;
    narrow(weight, &stored);
    return widen(stored);
  }

  /// P and dS of the query and the key that are loaded.
  Pair weigh(std::int64_t query, std::int64_t head, const AttentionDelta& delta) const {
    const AttentionProblem& p = forward_.problem;
    const float lse =
        forward_.lse[b_ * forward_.lse_batch_stride + head * forward_.lse_head_stride + q_start_ + query];
    if (lse == -HUGE_VALF) return {};  // all logits of the query are -inf
    const Dot logit = product(q_, k_, p.head_dim), d_p = product(d_o_, v_, p.head_dim_v);
    Exact exact = logit.exact * static_cast<Exact>(forward_.softmax_scale), slope = 1;
    Plain plain = logit.plain * static_cast<Plain>(forward_.softmax_scale), plain_slope = 1;
    if (p.softcap > 0) {
      const Exact bent = std::tanh(exact / static_cast<Exact>(p.softcap));
      const Plain plain_bent = std::tanh(plain / static_cast<Plain>(p.softcap));
      exact = static_cast<Exact>(p.softcap) * bent, slope = 1 - bent * bent;
      plain = static_cast<Plain>(p.softcap) * plain_bent, plain_slope = 1 - plain_bent * plain_bent;
    }
    Pair pair;
    pair.p = std::exp(exact - static_cast<Exact>(lse));
    const Plain plain_p = std::exp(plain - static_cast<Plain>(lse));
    const Exact difference = d_p.exact - static_cast<Exact>(delta.exact);
    pair.d_s = pair.p * difference * slope;
    pair.plain_p = rounded(plain_p);
    pair.plain_d_s = rounded(plain_p * (d_p.plain - static_cast<Plain>(delta.plain)) * plain_slope);

    // Errors to be expected: a sum of n products in any order is off by about sqrt(n) / 2 roundings of its partial
    // sums; an exponential by as much of itself as its argument is off, and a few roundings more.
    const double unit = std::is_same_v<Storage, double> ? 0x1p-53 : 0x1p-24;
    const double stored = std::is_same_v<Storage, Half> ? 0x1p-11 : std::is_same_v<Storage, BFloat16> ? 0x1p-8 : unit;
    const double size = static_cast<double>(forward_.softmax_scale) * logit.size;
    const double argument = 4 + std::fabs(static_cast<double>(lse)) + std::sqrt(p.head_dim) / 2 * size;
    const double weight = static_cast<double>(pair.p), d_s = std::fabs(static_cast<double>(pair.d_s));
    pair.p_error = weight * (stored / std::sqrt(3.0) + unit * argument);
    pair.d_s_error = d_s * (stored / std::sqrt(3.0) + unit * argument) +
                     unit * weight * (4 + std::sqrt(p.head_dim_v) / 2) * (d_p.size + delta.size);
    if (p.softcap > 0) pair.d_s_error += unit * (8 + size) * weight * std::fabs(static_cast<double>(difference));
    // float16 has no number between 0 and 2^-24, float none worth the name below 2^-126 (units may flush there). A
    // kernel may hold P in the dtype when it forms dS.
    const double quantum = std::is_same_v<Storage, Half> ? 0x1p-26 : std::is_same_v<Storage, double> ? 0 : 0x1p-126;
    pair.p_error += quantum;
    pair.d_s_error += quantum * (1 + std::fabs(static_cast<double>(difference)));
    return pair;
  }

  const AttentionBackwardCall& call_;
  const AttentionCall& forward_;
  std::int64_t b_, q_start_, q_length_, k_start_, k_length_;
  Plain q_[kMaxHeadDim], k_[kMaxHeadDim], v_[kMaxHeadDim], d_o_[kMaxHeadDim];
};

/// Calls body(PairComputer of the call's dtype).
template <class Body>
void with_type(const AttentionBackwardCall& call, std::int64_t b, const Body& body) {
  switch (call.forward.problem.dtype) {
    case DType::float16:
      return body(PairComputer<Half>(call, b));
    case DType::bfloat16:
      return body(PairComputer<BFloat16>(call, b));
    case DType::float32:
      return body(PairComputer<float>(call, b));
    case DType::float64:
      return body(PairComputer<double>(call, b));
  }
}

}  // namespace

void compute_attention_delta(const AttentionBackwardCall& call, const AttentionRow& row, AttentionDelta* result) {
  with_type(call, row.b, [&](auto computer) { computer.delta(row, result); });
}

void compute_attention_query(const AttentionBackwardCall& call, const AttentionDelta* deltas, const AttentionRow& row,
                             AttentionGradientRow* d_q) {
  with_type(call, row.b, [&](auto computer) { computer.query(deltas, row, d_q); });
}

void compute_attention_key(const AttentionBackwardCall& call, const AttentionDelta* deltas, const AttentionRow& row,
                           AttentionGradientRow* d_k, AttentionGradientRow* d_v) {
  with_type(call, row.b, [&](auto computer) { computer.key(deltas, row, d_k, d_v); });
}

}  // namespace triage::cpu::TRIAGE_ISA
