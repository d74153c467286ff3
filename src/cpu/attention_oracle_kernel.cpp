// The oracle's loops (see attention_oracle.h), compiled once per instruction set so that a check takes seconds.
//
// Two passes over the keys, each in the plainest way: the first finds the largest logit, the second adds exponentials
// and weighted values. Logits are computed twice rather than stored.
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "cpu/attention_kernels.h"
#include "cpu/attention_oracle.h"
#include "cpu/pack.h"

namespace triage::cpu::TRIAGE_ISA {
namespace {

template <class Storage>
class RowComputer {
 public:
  using Plain = Compute<Storage>;  // float, or double for float64
  using Exact = std::conditional_t<std::is_same_v<Storage, double>, long double, double>;

  RowComputer(const AttentionCall& call, const AttentionRow& row)
      : call_(call), row_(row), kv_head_(row.head / (call.problem.heads / call.problem.kv_heads)) {
    const AttentionProblem& p = call.problem;
    q_start_ = call.cu_seqlens_q == nullptr ? 0 : call.cu_seqlens_q[row.b];
    q_length_ = call.cu_seqlens_q == nullptr ? p.seqlen_q : call.cu_seqlens_q[row.b + 1] - q_start_;
    k_start_ = call.cu_seqlens_k == nullptr ? 0 : call.cu_seqlens_k[row.b];
    k_length_ = call.cu_seqlens_k == nullptr ? p.seqlen_k : call.cu_seqlens_k[row.b + 1] - k_start_;
    if (call.seqused_k != nullptr && call.seqused_k[row.b] < k_length_) k_length_ = call.seqused_k[row.b];
    widen_row(static_cast<const Storage*>(call.q.data) + row.b * call.q.batch_stride +
                  (q_start_ + row.query) * call.q.sequence_stride + row.head * call.q.head_stride,
              p.head_dim, q_);
  }

  void compute(AttentionRowResult* result) {
    *result = {};
    Exact top = -HUGE_VAL;
    Plain plain_top = -HUGE_VAL;
    double largest = 0;
    for (std::int64_t j = 0; j < k_length_; ++j) {
      if (!attends(j)) continue;
      ++result->keys;
      Exact logit;
      Plain plain_logit;
      logits(j, &logit, &plain_logit, &largest);
      if (logit > top) top = logit;
      if (plain_logit > plain_top) plain_top = plain_logit;
    }
    Exact sum = 0;
    Plain plain_sum = 0;
    double unused = 0;
    for (std::int64_t j = 0; j < k_length_; ++j) {
      if (!attends(j)) continue;
      Exact logit;
      Plain plain_logit;
      logits(j, &logit, &plain_logit, &unused);
      const Exact weight = std::exp(logit - top);
      const Plain plain_weight = std::exp(plain_logit - plain_top);
      sum += weight;
      plain_sum += plain_weight;
      add_values(j, weight, rounded_weight(plain_weight));
    }
    if (call_.sinks != nullptr) add_sink(&top, &sum, &plain_top, &plain_sum);
    finish(result, sum, plain_sum);
    result->logit_size = largest;
    result->exact_lse = static_cast<double>(sum == 0 ? -HUGE_VAL : top + std::log(sum));
    result->plain_lse = static_cast<float>(sum == 0 ? -HUGE_VAL : plain_top + std::log(plain_sum));
  }

 private:
  bool attends(std::int64_t j) const {
    const std::int64_t diagonal = row_.query + k_length_ - q_length_;
    const std::int64_t left = call_.problem.window_left, right = call_.problem.window_right;
    const AttentionMask& mask = call_.mask;
    bool let = true;
    if (mask.given()) {
      const std::int64_t number = row_.b * mask.batch_masks + row_.head / mask.heads_per_mask;
      const std::int64_t row = number * mask.by_query.rows + row_.query / 64, column = j / 64;
      const std::int64_t word = row * mask.by_query.row_words + column / 32;
      const std::uint32_t bit = std::uint32_t{1} << (column % 32);
      if ((mask.by_query.listed[word] & bit) == 0) return false;
      if ((mask.by_query.full[word] & bit) != 0) return true;
      const std::int64_t entry =
          mask.element_index == nullptr ? -1 : mask.element_index[row * mask.by_key.rows + column];
      if (entry >= 0) let = (mask.elements[entry * 64 + row_.query % 64] >> (j % 64)) % 2 == 1;
    }
    return let && (left < 0 || j >= diagonal - left) && (right < 0 || j <= diagonal + right);
  }

  const Storage* key_row(const AttentionTensor& tensor, std::int64_t j) const {
    const Storage* data = static_cast<const Storage*>(tensor.data) + kv_head_ * tensor.head_stride;
    if (call_.block_table == nullptr)
      return data + row_.b * tensor.batch_stride + (k_start_ + j) * tensor.sequence_stride;
    const std::int64_t size = call_.problem.page_size;
    const std::int64_t page = call_.block_table[row_.b * call_.block_table_stride + j / size];
    return data + page * tensor.batch_stride + (j - j / size * size) * tensor.sequence_stride;
  }

  /// The logit of key j in both precisions; *largest grows to what its sum may have been rounded at.
  void logits(std::int64_t j, Exact* exact, Plain* plain, double* largest) {
    constexpr int kLanes = 8;  // head_dim is a multiple
    const int dim = call_.problem.head_dim;
    widen_row(key_row(call_.k, j), dim, k_);
    Exact sums[kLanes] = {};
    Plain plain_sums[kLanes] = {};
    double sizes[kLanes] = {};
    for (int d = 0; d < dim; d += kLanes)
      for (int lane = 0; lane < kLanes; ++lane) {
        sums[lane] += static_cast<Exact>(q_[d + lane]) * static_cast<Exact>(k_[d + lane]);
        plain_sums[lane] += q_[d + lane] * k_[d + lane];
        const double product = static_cast<double>(q_[d + lane]) * static_cast<double>(k_[d + lane]);
        sizes[lane] += product * product;
      }
    Exact sum = 0;
    Plain plain_sum = 0;
    double squares = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      sum += sums[lane];
      plain_sum += plain_sums[lane];
      squares += sizes[lane];
    }
    *exact = sum * static_cast<Exact>(call_.softmax_scale);
    *plain = plain_sum * static_cast<Plain>(call_.softmax_scale);
    // What the partial sums are like: they end at the logit, and walk about the root of the squares.
    const double walk = std::sqrt(squares) * static_cast<double>(call_.softmax_scale);
    const double size = std::fabs(static_cast<double>(*exact)) + walk;
    if (size > *largest) *largest = size;
    const float cap = call_.problem.softcap;
    if (cap > 0) {
      *exact = static_cast<Exact>(cap) * std::tanh(*exact / static_cast<Exact>(cap));
      *plain = static_cast<Plain>(cap) * std::tanh(*plain / static_cast<Plain>(cap));
    }
  }

  static Plain rounded_weight(Plain weight) {
    Storage stored;
    narrow(weight, &stored);
    return widen(stored);
  }

  void add_values(std::int64_t j, Exact weight, Plain plain_weight) {
    const int dim = call_.problem.head_dim_v;
    widen_row(key_row(call_.v, j), dim, v_);
    for (int c = 0; c < dim; ++c) {
      exact_[c] += weight * static_cast<Exact>(v_[c]);
      plain_[c] += plain_weight * v_[c];
      const double weighted = static_cast<double>(weight) * static_cast<double>(v_[c]);
      squares_[c] += weighted * weighted;
      value_size_ = std::max(value_size_, std::fabs(static_cast<double>(v_[c])));
    }
  }

  void add_sink(Exact* top, Exact* sum, Plain* plain_top, Plain* plain_sum) {
    const float sink = call_.sinks[row_.head];
    if (sink == -HUGE_VALF) return;
    const auto add = [&](auto* largest, auto* total, auto* values, double* root_scale) {
      using T = std::remove_reference_t<decltype(*largest)>;
      const T logit = static_cast<T>(sink);
      if (logit > *largest) {
        const T factor = std::exp(*largest - logit);
        *total *= factor;
        for (int c = 0; c < call_.problem.head_dim_v; ++c) values[c] *= factor;
        *root_scale *= static_cast<double>(factor);
        *largest = logit;
      }
      *total += std::exp(logit - *largest);
    };
    double unused = 1;
    add(top, sum, exact_, &root_scale_);
    add(plain_top, plain_sum, plain_, &unused);
  }

  void finish(AttentionRowResult* result, Exact sum, Plain plain_sum) {
    const int dim = call_.problem.head_dim_v;
    double squares = 0;
    for (int c = 0; c < dim; ++c) {
      Storage rounded;
      narrow(plain_sum == 0 ? Plain{0} : plain_[c] / plain_sum, &rounded);
      result->plain[c] = static_cast<double>(widen(rounded));
      result->exact[c] = static_cast<double>(sum == 0 ? Exact{0} : exact_[c] / sum);
      if (squares_[c] > squares) squares = squares_[c];
    }
    const double total = static_cast<double>(sum);
    result->value_size = value_size_;
    result->weighted_root = total == 0 ? 0 : std::sqrt(squares) * root_scale_ / total;
  }

  const AttentionCall& call_;
  const AttentionRow& row_;
  std::int64_t kv_head_, q_start_, q_length_, k_start_, k_length_;
  Plain q_[kMaxHeadDim], k_[kMaxHeadDim], v_[kMaxHeadDim];
  Exact exact_[kMaxHeadDim] = {};
  Plain plain_[kMaxHeadDim] = {};
  double squares_[kMaxHeadDim] = {};
  double value_size_ = 0;
  double root_scale_ = 1;  // of the roots of squares_, which a sink makes too small to be squared
};

template <class Storage>
void compute_typed(const AttentionCall& call, const AttentionRow& row, AttentionRowResult* result) {
  RowComputer<Storage>(call, row).compute(result);
}

}  // namespace

void compute_attention_row(const AttentionCall& call, const AttentionRow& row, AttentionRowResult* result) {
  switch (call.problem.dtype) {
    case DType::float16:
      return compute_typed<Half>(call, row, result);
    case DType::bfloat16:
      return compute_typed<BFloat16>(call, row, result);
    case DType::float32:
      return compute_typed<float>(call, row, result);
    case DType::float64:
      return compute_typed<double>(call, row, result);
  }
}

}  // namespace triage::cpu::TRIAGE_ISA
