// attention_backward's arguments: every mistake gets a sentence that names the argument, and leaves the gradients alone;
// gradients that are not wanted need not be given; lengths of zero give zeros.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "triage/c_api.h"
#include "triage/triage.h"
#include "unit/tensor_view.h"

namespace triage {
namespace {

using test::View;
using Shape = std::vector<std::int64_t>;

// One argument of a small float32 call.
struct Argument {
  std::vector<float> data;
  Shape shape, strides;
  DLDataType dtype{kDLFloat, 32, 1};
  bool given = true;

  View view() const { return View(const_cast<float*>(data.data()), dtype, shape, strides); }
};

constexpr float kUntouched = 77.0f;

// Two queries of two heads, three keys of one; any field may be spoilt before `run`.
struct Call {
  Argument q, k, v, o, lse, d_o, d_lse, d_q, d_k, d_v, d_sinks;
  std::vector<float> sinks{0.5f, -0.5f};
  std::vector<std::int32_t> lengths{3}, cu_q{0, 2}, cu_k{0, 3}, table{0};
  AttentionOptions options;
  GradientOrder order = GradientOrder::deterministic;
  std::size_t spare_workspace = 0;  // bytes less than needed

  Call() {
    const auto fill = [](Argument& argument, Shape shape, float start) {
      std::int64_t count = 1;
      for (const std::int64_t length : shape) count *= length;
      argument.shape = std::move(shape);
      for (std::int64_t i = 0; i < count; ++i) argument.data.push_back(std::sin(start + static_cast<float>(i)));
    };
    fill(q, {1, 2, 2, 8}, 0), fill(k, {1, 3, 1, 8}, 1), fill(v, {1, 3, 1, 16}, 2), fill(o, {1, 2, 2, 16}, 3);
    fill(lse, {1, 2, 2}, 4), fill(d_o, {1, 2, 2, 16}, 5), fill(d_lse, {1, 2, 2}, 6);
    fill(d_q, {1, 2, 2, 8}, 7), fill(d_k, {1, 3, 1, 8}, 8), fill(d_v, {1, 3, 1, 16}, 9), fill(d_sinks, {2}, 10);
    for (float& x : lse.data) x = 1.5f;
    for (Argument* gradient : {&d_q, &d_k, &d_v, &d_sinks}) {
      for (float& x : gradient->data) x = kUntouched;
    }
    d_sinks.given = false;
  }

  void with_sinks() {
    sinks_given = true;
    d_sinks.given = true;
  }
  bool sinks_given = false;

  void run() {
    const View views[] = {q.view(),     k.view(),   v.view(),   o.view(),   lse.view(),    d_o.view(),
                          d_lse.view(), d_q.view(), d_k.view(), d_v.view(), d_sinks.view()};
    const Argument* arguments[] = {&q, &k, &v, &o, &lse, &d_o, &d_lse, &d_q, &d_k, &d_v, &d_sinks};
    const auto pointer = [&](int i) { return arguments[i]->given ? &views[i].fields : nullptr; };
    const AttentionBackwardInputs inputs{pointer(0), pointer(1), pointer(2), pointer(3),
                                         pointer(4), pointer(5), pointer(6)};
    const AttentionBackwardOutputs outputs{pointer(7), pointer(8), pointer(9), pointer(10)};
    const View sinks_view = test::view(sinks);
    if (sinks_given) options.sinks = &sinks_view.fields;
    std::vector<char> memory(attention_backward_workspace_bytes(inputs, outputs, options, order) + 512);
    char* aligned = memory.data() + (256 - reinterpret_cast<std::uintptr_t>(memory.data()) % 256);
    attention_backward(inputs, outputs, options, order, {aligned, memory.size() - 512 - spare_workspace});
  }

  bool untouched() const {
    for (const Argument* gradient : {&d_q, &d_k, &d_v, &d_sinks})
      for (const float x : gradient->data)
        if (x != kUntouched) return false;
    return true;
  }
};

void expect_refusal(const std::function<void(Call&)>& spoil, const std::vector<std::string>& words,
                    ErrorCode code = ErrorCode::invalid_argument) {
  Call call;
  spoil(call);
  try {
    call.run();
    ADD_FAILURE() << "nothing was refused that should name " << words.front();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    for (const std::string& word : words)
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << "'" << word << "' in: " << error.what();
  }
  EXPECT_TRUE(call.untouched()) << words.front();
}

TEST(AttentionBackwardApi, AMistakeIsNamedWithWhatIsAccepted) {
  for (const auto& [name, field] : {std::pair{"q", &Call::q}, {"k", &Call::k}, {"v", &Call::v}, {"o", &Call::o},
                                    {"lse", &Call::lse}, {"d_o", &Call::d_o}}) {
    expect_refusal([&](Call& c) { (c.*field).given = false; }, {std::string(name) + " is null"});
  }
  for (const auto& [name, field] :
       {std::pair{"q", &Call::q}, {"k", &Call::k}, {"v", &Call::v}, {"o", &Call::o}, {"lse", &Call::lse},
        {"d_o", &Call::d_o}, {"d_lse", &Call::d_lse}, {"d_q", &Call::d_q}, {"d_k", &Call::d_k}, {"d_v", &Call::d_v}}) {
    const std::string says = name;
    expect_refusal([&](Call& c) { (c.*field).shape.pop_back(); }, {says + " has"});
    expect_refusal([&](Call& c) { (c.*field).dtype = {kDLInt, 32, 1}; }, {says + " is int32"});
    expect_refusal([&](Call& c) { (c.*field).shape.back() = -8; }, {says, "negative"});
    expect_refusal([&](Call& c) { (c.*field).strides.assign((c.*field).shape.size(), -1); }, {says});
  }
  for (const auto& [name, field] : {std::pair{"o", &Call::o}, {"d_o", &Call::d_o}, {"d_q", &Call::d_q},
                                    {"d_k", &Call::d_k}, {"d_v", &Call::d_v}, {"d_lse", &Call::d_lse}}) {
    expect_refusal([&](Call& c) { (c.*field).shape[1] += 1; }, {std::string(name) + " has"});
  }
  expect_refusal([](Call& c) { c.d_q.dtype = {kDLFloat, 64, 1}; }, {"d_q is float64", "float32"});
  expect_refusal([](Call& c) { c.d_lse.dtype = {kDLFloat, 16, 1}; }, {"d_lse is float16", "float32"});
  expect_refusal([](Call& c) { c.d_q.given = c.d_k.given = c.d_v.given = false; },
                 {"d_q, d_k, d_v and d_sinks are all null", "at least one"});
  expect_refusal([](Call& c) { c.d_sinks.given = true; }, {"d_sinks is given without options.sinks"});
  expect_refusal([](Call& c) { c.with_sinks(), c.d_sinks.shape = {1}; }, {"d_sinks has the shape [1]"});
  expect_refusal([](Call& c) { c.with_sinks(), c.d_sinks.dtype = {kDLFloat, 16, 1}; }, {"d_sinks is float16"});
  expect_refusal([](Call& c) { c.options.num_splits = 2; }, {"options.num_splits is 2", "accepted: 0"});
  expect_refusal([](Call& c) { c.options.num_splits = -1; }, {"options.num_splits is -1"});
  expect_refusal([](Call& c) { c.options.softcap = -1; }, {"options.softcap is -1"});
  expect_refusal([](Call& c) { c.options.softmax_scale = std::nanf(""); }, {"options.softmax_scale"});
  expect_refusal([](Call& c) { c.options.window_left = -2; }, {"options.window_left is -2"});
  expect_refusal([](Call& c) { c.order = static_cast<GradientOrder>(2); }, {"order is 2", "0 (deterministic)"});
  expect_refusal([](Call& c) { c.spare_workspace = 1; }, {"workspace.bytes"}, ErrorCode::out_of_memory);
}

TEST(AttentionBackwardApi, ACacheHasNoBackward) {
  Call call;
  const View used = test::view(call.lengths), table = test::view(call.table, {1, 1});
  expect_refusal([&](Call& c) { c.options.seqused_k = &used.fields; }, {"options.seqused_k", "cache"});
  expect_refusal([&](Call& c) { c.options.block_table = &table.fields; }, {"options.block_table", "cache"});
}

TEST(AttentionBackwardApi, GradientsShareNoMemory) {
  // d_k in the place of k, of d_o, and of the end of d_v.
  for (const auto& [name, field] : {std::pair{"k", &Call::k}, {"d_o", &Call::d_o}, {"d_v", &Call::d_v}}) {
    Call call;
    const std::vector<float> before = (call.*field).data;
    const View q = call.q.view(), k = call.k.view(), v = call.v.view(), o = call.o.view(), lse = call.lse.view();
    const View d_o = call.d_o.view(), d_v = call.d_v.view();
    const View shared((call.*field).data.data(), {kDLFloat, 32, 1}, call.d_k.shape);
    const AttentionBackwardInputs inputs{&q.fields, &k.fields, &v.fields, &o.fields, &lse.fields, &d_o.fields, nullptr};
    const AttentionBackwardOutputs outputs{nullptr, &shared.fields, &d_v.fields, nullptr};
    try {
      attention_backward_workspace_bytes(inputs, outputs);
      ADD_FAILURE() << "d_k in the place of " << name;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("overlaps"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("d_k"), std::string::npos) << error.what();
    }
    EXPECT_EQ((call.*field).data, before);
  }
  expect_refusal([](Call& c) { c.d_q.strides = {32, 16, 0, 1}; }, {"d_q has the stride 0", "apart"});
}

TEST(AttentionBackwardApi, WhatIsNotWantedNeedNotBeGiven) {
  Call all;
  all.with_sinks();
  all.run();
  EXPECT_EQ(last_kernel(), "cpu_attention_backward");
  EXPECT_FALSE(all.untouched());
  for (int wanted = 0; wanted < 4; ++wanted) {
    Call one;
    one.with_sinks();
    Argument* const gradients[] = {&one.d_q, &one.d_k, &one.d_v, &one.d_sinks};
    const Argument* const right[] = {&all.d_q, &all.d_k, &all.d_v, &all.d_sinks};
    for (int i = 0; i < 4; ++i) gradients[i]->given = i == wanted;
    one.run();
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(gradients[i]->data, i == wanted ? right[i]->data
                                                : std::vector<float>(gradients[i]->data.size(), kUntouched))
          << "gradient " << i << " when " << wanted << " is wanted";
    }
  }
}

TEST(AttentionBackwardApi, LengthsOfZeroGiveZeros) {
  Call no_keys;
  for (Argument* argument : {&no_keys.k, &no_keys.v, &no_keys.d_k, &no_keys.d_v}) argument->shape[1] = 0;
  for (float& x : no_keys.lse.data) x = -INFINITY;
  no_keys.run();
  EXPECT_EQ(no_keys.d_q.data, std::vector<float>(no_keys.d_q.data.size(), 0.0f));
  Call no_queries;
  for (Argument* argument : {&no_queries.q, &no_queries.o, &no_queries.d_o, &no_queries.d_q}) argument->shape[1] = 0;
  no_queries.lse.shape[2] = no_queries.d_lse.shape[2] = 0;
  no_queries.run();
  EXPECT_EQ(no_queries.d_k.data, std::vector<float>(no_queries.d_k.data.size(), 0.0f));
  EXPECT_EQ(no_queries.d_v.data, std::vector<float>(no_queries.d_v.data.size(), 0.0f));
  Call neither;
  for (Argument* argument : {&neither.q, &neither.o, &neither.d_o, &neither.d_q, &neither.k, &neither.v, &neither.d_k,
                             &neither.d_v})
    argument->shape[1] = 0;
  neither.lse.shape[2] = neither.d_lse.shape[2] = 0;
  neither.run();
  EXPECT_EQ(last_kernel(), "");
}

TEST(AttentionBackwardApi, TheCAbiGivesTheSameBits) {
  Call call;
  call.d_lse.given = false;
  call.run();
  Call other;
  const View q = other.q.view(), k = other.k.view(), v = other.v.view(), o = other.o.view(), lse = other.lse.view();
  const View d_o = other.d_o.view(), d_q = other.d_q.view(), d_k = other.d_k.view(), d_v = other.d_v.view();
  const triage_attention_backward_inputs inputs{&q.fields,   &k.fields,   &v.fields, &o.fields,
                                                &lse.fields, &d_o.fields, nullptr};
  const triage_attention_backward_outputs outputs{&d_q.fields, &d_k.fields, &d_v.fields, nullptr};
  std::size_t bytes = 0;
  ASSERT_EQ(triage_attention_backward_workspace_bytes(&inputs, &outputs, nullptr, 0, &bytes), TRIAGE_OK);
  std::vector<char> memory(bytes + 512);
  const triage_workspace workspace{memory.data() + (256 - reinterpret_cast<std::uintptr_t>(memory.data()) % 256),
                                   bytes};
  ASSERT_EQ(triage_attention_backward(&inputs, &outputs, nullptr, 0, &workspace, nullptr), TRIAGE_OK)
      << triage_last_error();
  EXPECT_EQ(other.d_q.data, call.d_q.data);
  EXPECT_EQ(other.d_k.data, call.d_k.data);
  EXPECT_EQ(other.d_v.data, call.d_v.data);
  EXPECT_EQ(triage_attention_backward(nullptr, &outputs, nullptr, 0, &workspace, nullptr), TRIAGE_INVALID_ARGUMENT);
  EXPECT_EQ(triage_attention_backward(&inputs, nullptr, nullptr, 0, &workspace, nullptr), TRIAGE_INVALID_ARGUMENT);
  EXPECT_EQ(triage_attention_backward(&inputs, &outputs, nullptr, 7, &workspace, nullptr), TRIAGE_INVALID_ARGUMENT);
  EXPECT_NE(std::string(triage_last_error()).find("order is 7"), std::string::npos) << triage_last_error();
  EXPECT_EQ(triage_attention_backward_workspace_bytes(&inputs, &outputs, nullptr, 0, nullptr),
            TRIAGE_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace triage
