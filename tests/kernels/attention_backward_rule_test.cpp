// The rule by which gradients are judged finds what is planted: gradients of another problem, or damaged ones, are not
// taken for right ones.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "device/memory.h"
#include "triage/triage.h"
#include "unit/tensor_view.h"
#include "verdict/attention_backward_correctness.h"
#include "verdict/random_inputs.h"

namespace triage::testing {
namespace {

using namespace verdict;
using test::View;
using Numbers = std::vector<float>;

constexpr std::int64_t kBatch = 2, kHeads = 4, kKvHeads = 2, kQueries = 70, kKeys = 110;
constexpr int kDim = 32, kDimV = 24;
constexpr DLDevice kHost{kDLCPU, 0};

// What is asked of the backward.
struct Question {
  bool causal = true, sinks = true, d_lse = true;
  std::int64_t window_left = 40, window_right = -1;
  float softcap = 2, softmax_scale = 0.3f;
};

struct Gradients {
  Numbers q, k, v, sinks;
};

struct Problem {
  Numbers q = random(kBatch * kQueries * kHeads * kDim, 1), k = random(kBatch * kKeys * kKvHeads * kDim, 2),
          v = random(kBatch * kKeys * kKvHeads * kDimV, 3), d_o = random(kBatch * kQueries * kHeads * kDimV, 4),
          d_lse = random(kBatch * kHeads * kQueries, 5), sinks = random(kHeads, 6);
  Numbers o = Numbers(d_o.size()), lse = Numbers(d_lse.size());

  static Numbers random(std::int64_t count, std::uint64_t seed) {
    Numbers numbers(static_cast<std::size_t>(count));
    fill_random(DType::float32, numbers.data(), 1, count, count, seed, ValueKind::centred);
    return numbers;
  }

  /// The gradients for `question`; O and lse are those of `of_forward`.
  Gradients answer(const Question& question, const Question& of_forward) {
    Gradients g{Numbers(q.size()), Numbers(k.size()), Numbers(v.size()), Numbers(sinks.size())};
    const View qv = test::view(q, {kBatch, kQueries, kHeads, kDim}), kv = test::view(k, {kBatch, kKeys, kKvHeads, kDim});
    const View vv = test::view(v, {kBatch, kKeys, kKvHeads, kDimV}), ov = test::view(o, {kBatch, kQueries, kHeads, kDimV});
    const View lv = test::view(lse, {kBatch, kHeads, kQueries}), dlv = test::view(d_lse, {kBatch, kHeads, kQueries});
    const View dov = test::view(d_o, {kBatch, kQueries, kHeads, kDimV}), sv = test::view(sinks);
    const View dq = test::view(g.q, {kBatch, kQueries, kHeads, kDim}), dk = test::view(g.k, {kBatch, kKeys, kKvHeads, kDim});
    const View dv = test::view(g.v, {kBatch, kKeys, kKvHeads, kDimV}), ds = test::view(g.sinks);
    const auto options_of = [&](const Question& asked) {
      AttentionOptions options;
      options.causal = asked.causal;
      options.window_left = asked.window_left;
      options.window_right = asked.window_right;
      options.softcap = asked.softcap;
      options.softmax_scale = asked.softmax_scale;
      if (asked.sinks) options.sinks = &sv.fields;
      return options;
    };
    const AttentionOptions forward = options_of(of_forward), backward = options_of(question);
    Buffer scratch(kHost, attention_forward_workspace_bytes(qv, kv, vv, ov, &lv.fields, forward), nullptr);
    attention_forward(qv, kv, vv, ov, &lv.fields, forward, {scratch.data(), scratch.bytes()});
    const AttentionBackwardInputs inputs{&qv.fields, &kv.fields,  &vv.fields,
                                         &ov.fields, &lv.fields,  &dov.fields,
                                         question.d_lse ? &dlv.fields : nullptr};
    const AttentionBackwardOutputs outputs{&dq.fields, &dk.fields, &dv.fields, question.sinks ? &ds.fields : nullptr};
    Buffer workspace(kHost, attention_backward_workspace_bytes(inputs, outputs, backward), nullptr);
    attention_backward(inputs, outputs, backward, GradientOrder::deterministic, {workspace.data(), workspace.bytes()});
    return g;
  }

  CheckResult judge(const Question& question, const Gradients& got) {
    const auto tensor = [](Numbers& data, std::int64_t rows, std::int64_t heads, std::int64_t dim) {
      return AttentionTensor{data.data(), rows * heads * dim, heads * dim, dim};
    };
    Gradients layout = got;
    AttentionBackwardCall call;
    AttentionCall& f = call.forward;
    f.problem.dtype = DType::float32;
    f.problem.batch = kBatch, f.problem.heads = kHeads, f.problem.kv_heads = kKvHeads;
    f.problem.seqlen_q = kQueries, f.problem.seqlen_k = kKeys;
    f.problem.head_dim = kDim, f.problem.head_dim_v = kDimV;
    f.problem.window_left = question.window_left;
    f.problem.window_right = question.causal ? 0 : question.window_right;
    f.problem.softcap = question.softcap;
    f.softmax_scale = question.softmax_scale;
    f.q = tensor(q, kQueries, kHeads, kDim), f.k = tensor(k, kKeys, kKvHeads, kDim);
    f.v = tensor(v, kKeys, kKvHeads, kDimV), f.o = tensor(o, kQueries, kHeads, kDimV);
    f.lse = lse.data(), f.lse_head_stride = kQueries, f.lse_batch_stride = kHeads * kQueries;
    if (question.sinks) f.sinks = sinks.data();
    call.d_o = tensor(d_o, kQueries, kHeads, kDimV);
    call.d_q = tensor(layout.q, kQueries, kHeads, kDim), call.d_k = tensor(layout.k, kKeys, kKvHeads, kDim);
    call.d_v = tensor(layout.v, kKeys, kKvHeads, kDimV);
    if (question.d_lse)
      call.d_lse = d_lse.data(), call.d_lse_head_stride = kQueries, call.d_lse_batch_stride = kHeads * kQueries;
    return check_attention_gradients(call, {got.q.data(), got.k.data(), got.v.data(),
                                            question.sinks ? got.sinks.data() : nullptr});
  }
};

TEST(AttentionBackwardRule, RightGradientsAreRight) {
  Problem problem;
  const CheckResult check = problem.judge({}, problem.answer({}, {}));
  EXPECT_TRUE(check.ok) << check.sentence;
  EXPECT_GT(check.frobenius, 0);
}

TEST(AttentionBackwardRule, TheGradientsOfAnotherQuestionAreFound) {
  const auto expect_found = [](const char* name, const std::function<void(Question&)>& change) {
    Problem problem;
    Question other;
    change(other);
    const CheckResult check = problem.judge({}, problem.answer(other, {}));
    EXPECT_FALSE(check.ok) << name;
  };
  expect_found("one key more at the right", [](Question& q) { q.causal = false, q.window_right = 1; });
  expect_found("one key more at the left", [](Question& q) { q.window_left = 41; });
  expect_found("one key less at the left", [](Question& q) { q.window_left = 39; });
  expect_found("no softcap", [](Question& q) { q.softcap = 0; });
  expect_found("another softcap", [](Question& q) { q.softcap = 2.02f; });
  expect_found("another scale", [](Question& q) { q.softmax_scale = 0.301f; });
  expect_found("no d_lse", [](Question& q) { q.d_lse = false; });
}

TEST(AttentionBackwardRule, DamageIsFound) {
  Problem problem;
  const Gradients right = problem.answer({}, {});
  const auto expect_found = [&](const char* name, const std::function<void(Gradients&)>& damage) {
    Gradients got = right;
    damage(got);
    const CheckResult check = problem.judge({}, got);
    EXPECT_FALSE(check.ok) << name;
  };
  const auto scale = [](Numbers& numbers, float factor) {
    for (float& x : numbers) x *= factor;
  };
  for (const float factor : {1.001f, 0.0f, -1.0f}) {
    expect_found("d_q scaled", [&](Gradients& g) { scale(g.q, factor); });
    expect_found("d_k scaled", [&](Gradients& g) { scale(g.k, factor); });
    expect_found("d_v scaled", [&](Gradients& g) { scale(g.v, factor); });
    expect_found("d_sinks scaled", [&](Gradients& g) { scale(g.sinks, factor); });
  }
  expect_found("one element of d_q", [](Gradients& g) { g.q[1234] += 0.01f; });
  expect_found("one element of d_k", [](Gradients& g) { g.k[1234] = std::nanf(""); });
  expect_found("one element of d_v", [](Gradients& g) { g.v[1234] += 0.01f; });
  expect_found("two heads of d_k", [](Gradients& g) {
    for (int c = 0; c < kDim; ++c) std::swap(g.k[kDim * kKvHeads * 9 + c], g.k[kDim * kKvHeads * 9 + kDim + c]);
  });
}

}  // namespace
}  // namespace triage::testing
