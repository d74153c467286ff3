// attention_backward against finite differences of the loss sum(O * d_o) + sum(lse * d_lse), in float64, for every
// option; and every option changes the gradients (an option that is dropped on the way would not).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "support/attention_rows.h"
#include "support/forced_kernel.h"
#include "triage/triage.h"
#include "unit/tensor_view.h"
#include "verdict/random_inputs.h"

namespace triage::testing {
namespace {

using test::View;
using Numbers = std::vector<double>;

// A block-sparse mask, by its definition.
struct Blocks {
  int block_q = 0, block_k = 64;  // 0: none
  std::int64_t batch = 1, heads = 1;
  std::vector<std::uint8_t> mask;       // [batch][heads][rows][cols]: 0, 1 listed, 2 full; made by draw
  std::vector<std::int32_t> index;      // likewise: of `elements`, or -1
  std::vector<std::uint8_t> elements;   // [2][block_q][block_k]; empty: no bit masks
  std::int64_t rows = 0, cols = 0;

  void draw(std::int64_t seqlen_q, std::int64_t seqlen_k, bool with_elements) {
    rows = (seqlen_q + block_q - 1) / block_q, cols = (seqlen_k + block_k - 1) / block_k;
    for (std::int64_t i = 0; i < batch * heads * rows * cols; ++i) {
      mask.push_back(static_cast<std::uint8_t>(verdict::random_bits(40, i) % 3));
      index.push_back(static_cast<std::int32_t>(verdict::random_bits(41, i) % 3) - 1);
    }
    if (with_elements)
      for (int i = 0; i < 2 * block_q * block_k; ++i) elements.push_back(verdict::random_bits(42, i) % 3 == 0);
  }

  std::int64_t block_at(std::int64_t b, std::int64_t h, std::int64_t all_heads, std::int64_t i, std::int64_t j) const {
    const std::int64_t number = (batch > 1 ? b : 0) * heads + h / (all_heads / heads);
    return (number * rows + i / block_q) * cols + j / block_k;
  }
  bool element(std::int64_t block, std::int64_t i, std::int64_t j) const {
    if (elements.empty() || index[block] < 0) return true;
    return elements[(index[block] * block_q + i % block_q) * block_k + j % block_k] != 0;
  }
};

// A small call. With lengths, Q and K are packed; else batch, seqlen_q and seqlen_k say it all.
struct Call {
  std::string name = "plain";
  std::int64_t batch = 2, heads = 2, kv_heads = 2, seqlen_q = 7, seqlen_k = 9;
  std::vector<std::int32_t> cu_q, cu_k;
  int dim = 8, dim_v = 8;
  bool causal = false, sinks = false, d_lse = false;
  std::int64_t window_left = -1, window_right = -1;
  float softcap = 0, scale = 0;
  Blocks blocks;

  std::int64_t q_rows() const { return cu_q.empty() ? batch * seqlen_q : cu_q.back(); }
  std::int64_t k_rows() const { return cu_k.empty() ? batch * seqlen_k : cu_k.back(); }
  std::int64_t q_begin(std::int64_t b) const { return cu_q.empty() ? b * seqlen_q : cu_q[b]; }
  std::int64_t k_begin(std::int64_t b) const { return cu_k.empty() ? b * seqlen_k : cu_k[b]; }
  std::int64_t q_length(std::int64_t b) const { return q_begin(b + 1) - q_begin(b); }
  std::int64_t k_length(std::int64_t b) const { return k_begin(b + 1) - k_begin(b); }
};

struct Values {
  Numbers q, k, v;
  std::vector<float> sinks;
};

struct Gradients {
  Numbers q, k, v;
  std::vector<float> sinks;
};

class Problem {
 public:
  explicit Problem(const Call& call) : c(call) {
    const auto random = [&](std::int64_t count, int operand) {
      Numbers numbers(static_cast<std::size_t>(count));
      for (std::size_t i = 0; i < numbers.size(); ++i)
        numbers[i] = static_cast<double>(verdict::random_bits(operand, i) % 20001) / 10000 - 1;
      return numbers;
    };
    values.q = random(c.q_rows() * c.heads * c.dim, 1);
    values.k = random(c.k_rows() * c.kv_heads * c.dim, 2);
    values.v = random(c.k_rows() * c.kv_heads * c.dim_v, 3);
    d_o = random(c.q_rows() * c.heads * c.dim_v, 4);
    for (const double x : random(c.q_rows() * c.heads, 5)) d_lse.push_back(static_cast<float>(x));
    for (const double x : random(c.heads, 6)) values.sinks.push_back(static_cast<float>(x));
  }

  // The loss by the definition, key by key.
  double loss(const Values& at) const {
    double loss = 0;
    for (std::int64_t b = 0; b < c.batch; ++b)
      for (std::int64_t h = 0; h < c.heads; ++h)
        for (std::int64_t i = 0; i < c.q_length(b); ++i) loss += loss_of_row(at, b, h, i);
    return loss;
  }

  Gradients gradients() const {
    const bool packed_q = !c.cu_q.empty(), packed_k = !c.cu_k.empty();
    const auto rows = [&](const Numbers& x, bool packed, std::int64_t length, std::int64_t heads, std::int64_t dim) {
      const std::int64_t count = static_cast<std::int64_t>(x.size()) / (heads * dim);
      return packed ? test::view(x, {count, heads, dim}) : test::view(x, {c.batch, length, heads, dim});
    };
    Numbers o(d_o.size());
    std::vector<float> lse(d_lse.size());
    Gradients g{Numbers(values.q.size()), Numbers(values.k.size()), Numbers(values.v.size()),
                std::vector<float>(values.sinks.size())};
    const View q = rows(values.q, packed_q, c.seqlen_q, c.heads, c.dim);
    const View k = rows(values.k, packed_k, c.seqlen_k, c.kv_heads, c.dim);
    const View v = rows(values.v, packed_k, c.seqlen_k, c.kv_heads, c.dim_v);
    const View ov = rows(o, packed_q, c.seqlen_q, c.heads, c.dim_v);
    const View d_ov = rows(d_o, packed_q, c.seqlen_q, c.heads, c.dim_v);
    const View d_q = rows(g.q, packed_q, c.seqlen_q, c.heads, c.dim);
    const View d_k = rows(g.k, packed_k, c.seqlen_k, c.kv_heads, c.dim);
    const View d_v = rows(g.v, packed_k, c.seqlen_k, c.kv_heads, c.dim_v);
    const auto by_head = [&](const std::vector<float>& x) {
      return packed_q ? test::view(x, {c.heads, c.q_rows()}) : test::view(x, {c.batch, c.heads, c.seqlen_q});
    };
    const View lv = by_head(lse), d_lv = by_head(d_lse);
    const View sinks = test::view(values.sinks), d_sinks = test::view(g.sinks);
    const View cu_q = test::view(c.cu_q), cu_k = test::view(c.cu_k);

    AttentionOptions options;
    options.softmax_scale = c.scale;
    options.causal = c.causal;
    options.window_left = c.window_left;
    options.window_right = c.window_right;
    options.softcap = c.softcap;
    if (packed_q) options.cu_seqlens_q = &cu_q.fields, options.max_seqlen_q = longest(c.cu_q);
    if (packed_k) options.cu_seqlens_k = &cu_k.fields, options.max_seqlen_k = longest(c.cu_k);
    if (c.sinks) options.sinks = &sinks.fields;
    AttentionPattern pattern;
    if (c.blocks.block_q > 0) {
      const Blocks& m = c.blocks;
      const std::int64_t longest_q = packed_q ? longest(c.cu_q) : c.seqlen_q;
      const std::int64_t longest_k = packed_k ? longest(c.cu_k) : c.seqlen_k;
      pattern = AttentionPattern::from_mask(test::view(m.mask, {m.batch, m.heads, m.rows, m.cols}), longest_q,
                                            longest_k, m.block_q, m.block_k);
      if (!m.elements.empty())
        pattern.set_elements(test::view(m.index, {m.batch, m.heads, m.rows, m.cols}),
                             test::view(m.elements, {2, m.block_q, m.block_k}));
      options.pattern = &pattern;
    }
    Buffer forward(kHost, attention_forward_workspace_bytes(q, k, v, ov, &lv.fields, options), nullptr);
    attention_forward(q, k, v, ov, &lv.fields, options, {forward.data(), forward.bytes()});

    AttentionBackwardInputs inputs{&q.fields,  &k.fields,    &v.fields, &ov.fields, &lv.fields, &d_ov.fields, nullptr};
    if (c.d_lse) inputs.d_lse = &d_lv.fields;
    const AttentionBackwardOutputs outputs{&d_q.fields, &d_k.fields, &d_v.fields, c.sinks ? &d_sinks.fields : nullptr};
    Buffer workspace(kHost, attention_backward_workspace_bytes(inputs, outputs, options), nullptr);
    attention_backward(inputs, outputs, options, GradientOrder::deterministic, {workspace.data(), workspace.bytes()});
    return g;
  }

  const Call c;
  Values values;
  Numbers d_o;
  std::vector<float> d_lse;

 private:
  static constexpr DLDevice kHost{kDLCPU, 0};

  static std::int64_t longest(const std::vector<std::int32_t>& cu) {
    std::int64_t most = 0;
    for (std::size_t i = 1; i < cu.size(); ++i) most = std::max<std::int64_t>(most, cu[i] - cu[i - 1]);
    return most;
  }

  double loss_of_row(const Values& at, std::int64_t b, std::int64_t h, std::int64_t i) const {
    const std::int64_t kv = h / (c.heads / c.kv_heads), row = (c.q_begin(b) + i) * c.heads + h;
    const std::int64_t diagonal = i + c.k_length(b) - c.q_length(b);
    const std::int64_t right = c.causal ? 0 : c.window_right;
    const double scale = c.scale > 0 ? static_cast<double>(c.scale)
                                     : static_cast<double>(static_cast<float>(1 / std::sqrt(c.dim * 1.0)));
    double sum = c.sinks ? std::exp(static_cast<double>(at.sinks[h])) : 0, weighted = 0;
    for (std::int64_t j = 0; j < c.k_length(b); ++j) {
      bool full = false;
      if (c.blocks.block_q > 0) {
        const std::int64_t block = c.blocks.block_at(b, h, c.heads, i, j);
        if (c.blocks.mask[block] == 0) continue;
        full = c.blocks.mask[block] == 2;
        if (!full && !c.blocks.element(block, i, j)) continue;
      }
      if (!full && c.window_left >= 0 && j < diagonal - c.window_left) continue;
      if (!full && right >= 0 && j > diagonal + right) continue;
      const std::int64_t key = (c.k_begin(b) + j) * c.kv_heads + kv;
      double logit = 0, value = 0;
      for (int d = 0; d < c.dim; ++d) logit += at.q[row * c.dim + d] * at.k[key * c.dim + d];
      for (int d = 0; d < c.dim_v; ++d) value += d_o[row * c.dim_v + d] * at.v[key * c.dim_v + d];
      logit *= scale;
      if (c.softcap > 0) logit = c.softcap * std::tanh(logit / c.softcap);
      sum += std::exp(logit);
      weighted += std::exp(logit) * value;
    }
    if (sum == 0) return 0;
    const std::int64_t at_lse = c.cu_q.empty() ? (b * c.heads + h) * c.seqlen_q + i : h * c.q_rows() + c.q_begin(b) + i;
    return weighted / sum + (c.d_lse ? d_lse[at_lse] * std::log(sum) : 0);
  }
};

std::vector<Call> calls() {
  std::vector<Call> calls(1);
  const auto add = [&](const char* name, const std::function<void(Call&)>& change) {
    Call call;
    change(call);
    call.name = name;
    calls.push_back(call);
  };
  add("softmax_scale", [](Call& c) { c.scale = 0.9f; });
  add("causal", [](Call& c) { c.causal = true; });
  add("causal_some_attend_nothing", [](Call& c) { c.causal = true, c.seqlen_q = 12; });
  add("window", [](Call& c) { c.window_left = 2, c.window_right = 1; });
  add("window_left", [](Call& c) { c.window_left = 1; });
  add("softcap", [](Call& c) { c.softcap = 0.7f; });
  add("kv_heads", [](Call& c) { c.heads = 6; });
  add("one_kv_head", [](Call& c) { c.heads = 3, c.kv_heads = 1; });
  add("cu_seqlens", [](Call& c) { c.batch = 4, c.cu_q = {0, 5, 5, 6, 13}, c.cu_k = {0, 3, 7, 7, 19}; });
  add("cu_seqlens_q", [](Call& c) { c.batch = 2, c.cu_q = {0, 5, 13}; });
  add("cu_seqlens_k", [](Call& c) { c.batch = 2, c.cu_k = {0, 5, 13}; });
  add("sinks", [](Call& c) { c.sinks = true; });
  add("wider_values", [](Call& c) { c.dim_v = 24; });
  add("narrower_values", [](Call& c) { c.dim = 40, c.dim_v = 16; });
  add("d_lse", [](Call& c) { c.d_lse = true; });
  add("longer_than_a_tile", [](Call& c) { c.batch = c.heads = c.kv_heads = 1, c.seqlen_q = 131, c.seqlen_k = 99; });
  add("all", [](Call& c) {
    c.heads = 4, c.batch = 3, c.cu_q = {0, 5, 6, 13}, c.cu_k = {0, 3, 7, 19}, c.dim = 16, c.dim_v = 24;
    c.causal = c.sinks = c.d_lse = true, c.window_left = 4, c.softcap = 1.5f, c.scale = 0.6f;
  });
  // Some queries attend nothing in most of these.
  const auto add_blocks = [&](const char* name, int block_q, int block_k, bool elements,
                              const std::function<void(Call&)>& change) {
    add(name, [&](Call& c) {
      c.batch = 1, c.seqlen_q = 150, c.seqlen_k = 330;
      c.blocks.block_q = block_q, c.blocks.block_k = block_k;
      change(c);
      c.blocks.draw(c.seqlen_q, c.seqlen_k, elements);
    });
  };
  add_blocks("blocks_64x64", 64, 64, false, [](Call&) {});
  add_blocks("blocks_64x128_of_each_head", 64, 128, false, [](Call& c) { c.blocks.heads = 2; });
  add_blocks("blocks_128x64_causal", 128, 64, false, [](Call& c) { c.causal = true; });
  add_blocks("blocks_64x64_window", 64, 64, false, [](Call& c) { c.window_left = 60, c.window_right = 30; });
  add_blocks("blocks_64x64_elements", 64, 64, true, [](Call&) {});
  add_blocks("blocks_128x128_elements_causal", 128, 128, true, [](Call& c) { c.causal = true, c.blocks.heads = 2; });
  add_blocks("blocks_of_kv_heads", 64, 64, true, [](Call& c) { c.heads = 4, c.blocks.heads = 2; });
  add_blocks("blocks_of_query_heads", 64, 64, true, [](Call& c) { c.heads = c.blocks.heads = 4; });
  add_blocks("blocks_all_options", 64, 64, true, [](Call& c) {
    c.heads = c.blocks.heads = 4, c.batch = c.blocks.batch = 3, c.cu_q = {0, 70, 71, 160}, c.cu_k = {0, 30, 190, 260};
    c.seqlen_q = 89, c.seqlen_k = 160, c.dim = 16, c.dim_v = 24;
    c.causal = c.sinks = c.d_lse = true, c.window_left = 60, c.softcap = 1.5f, c.scale = 0.6f;
  });
  return calls;
}

class AttentionGradient : public ::testing::TestWithParam<Call> {};

TEST_P(AttentionGradient, IsTheFiniteDifference) {
  const Problem problem(GetParam());
  for (const AttentionKernelRow& row : attention_backward_rows(false)) {
    if (row.dtype != DType::float64) continue;
    const Gradients got = problem.gradients();
    EXPECT_EQ(last_kernel(), row.kernel);
    // Along every axis of small operands, every few axes of larger ones.
    const auto compare = [&](const char* name, auto Values::* operand, const auto& gradient, double step,
                             double tolerance) {
      Values at = problem.values;
      auto& x = at.*operand;
      const std::size_t stride = x.size() / 150 + 1;
      for (std::size_t i = 0; i < x.size(); i += stride) {
        const auto before = x[i];
        x[i] = static_cast<std::decay_t<decltype(before)>>(before + step);
        const double up = x[i], loss_up = problem.loss(at);
        x[i] = static_cast<std::decay_t<decltype(before)>>(before - step);
        const double difference = (loss_up - problem.loss(at)) / (up - static_cast<double>(x[i]));
        x[i] = before;
        ASSERT_NEAR(gradient[i], difference, tolerance) << name << "[" << i << "] of " << row.kernel;
      }
    };
    // lse reaches the backward as a float32: its rounding is the error that counts.
    compare("d_q", &Values::q, got.q, 1e-5, 3e-6);
    compare("d_k", &Values::k, got.k, 1e-5, 3e-6);
    compare("d_v", &Values::v, got.v, 1e-5, 3e-6);
    if (GetParam().sinks) compare("d_sinks", &Values::sinks, got.sinks, 1e-3, 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Options, AttentionGradient, ::testing::ValuesIn(calls()),
                         [](const ::testing::TestParamInfo<Call>& call) { return call.param.name; });

TEST(AttentionGradientOptions, EachChangesTheGradients) {
  const Gradients plain = Problem(Call{}).gradients();
  const auto expect_change = [&](const char* name, const std::function<void(Call&)>& change, bool values_too) {
    Call call;
    change(call);
    const Gradients other = Problem(call).gradients();
    EXPECT_NE(plain.q, other.q) << name;
    EXPECT_NE(plain.k, other.k) << name;
    EXPECT_EQ(plain.v != other.v, values_too) << name;
  };
  expect_change("softmax_scale", [](Call& c) { c.scale = 0.9f; }, true);
  expect_change("causal", [](Call& c) { c.causal = true; }, true);
  expect_change("window_left", [](Call& c) { c.window_left = 2; }, true);
  expect_change("window_right", [](Call& c) { c.window_right = 2; }, true);
  expect_change("softcap", [](Call& c) { c.softcap = 0.7f; }, true);
  expect_change("cu_seqlens_q", [](Call& c) { c.cu_q = {0, 6, 14}; }, true);
  expect_change("cu_seqlens_k", [](Call& c) { c.cu_k = {0, 8, 18}; }, true);
  expect_change("sinks", [](Call& c) { c.sinks = true; }, true);
  expect_change("d_lse", [](Call& c) { c.d_lse = true; }, false);
  const auto one_block = [](Call& c, std::uint8_t value, bool elements) {
    c.blocks.block_q = 64;
    c.blocks.draw(c.seqlen_q, c.seqlen_k, elements);
    c.blocks.mask = {value}, c.blocks.index = {0};
  };
  expect_change("pattern", [&](Call& c) { one_block(c, 0, false); }, true);
  expect_change("elements", [&](Call& c) { one_block(c, 1, true); }, true);
  Call full;
  one_block(full, 2, true);
  full.causal = true;
  EXPECT_EQ(plain.q, Problem(full).gradients().q) << "a full block knows neither causal masks nor bits";
}

}  // namespace
}  // namespace triage::testing
