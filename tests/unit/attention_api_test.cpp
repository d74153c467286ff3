// attention_forward's arguments: what is accepted gives the right numbers by arithmetic that a reader can follow, and
// every mistake gets a sentence that names the argument.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "support/forced_kernel.h"
#include "triage/c_api.h"
#include "triage/triage.h"
#include "unit/tensor_view.h"

namespace triage {
namespace {

using test::View;
using Shape = std::vector<std::int64_t>;

// Operands of a small float32 call; any field may be spoilt before `run`.
struct Call {
  std::vector<float> q, k, v, o, lse, sinks;
  std::vector<std::int32_t> cu_q, cu_k, used, table;
  Shape q_shape{1, 2, 2, 8}, k_shape{1, 3, 1, 8}, v_shape{1, 3, 1, 8}, o_shape{1, 2, 2, 8}, lse_shape{1, 2, 2};
  Shape q_strides, k_strides, v_strides, o_strides, lse_strides;
  AttentionOptions options;
  bool with_lse = true;
  std::size_t spare_workspace = 0;  // bytes less than needed

  Call() : q(512), k(8192), v(8192), o(512), lse(64), sinks(2, 0.0f) {
    for (std::size_t i = 0; i < q.size(); ++i) q[i] = std::sin(static_cast<float>(i));
    for (std::size_t i = 0; i < k.size(); ++i)
      k[i] = std::cos(static_cast<float>(3 * i)), v[i] = static_cast<float>(i % 13);
  }

  View q_view() const { return test::view(q, q_shape, q_strides); }
  View k_view() const { return test::view(k, k_shape, k_strides); }
  View v_view() const { return test::view(v, v_shape, v_strides); }
  View o_view() const { return test::view(o, o_shape, o_strides); }
  View lse_view() const { return test::view(lse, lse_shape, lse_strides); }

  void run() { run(q_view(), k_view(), v_view(), o_view(), lse_view()); }

  void run(const View& qv, const View& kv, const View& vv, const View& ov, const View& lv) {
    const DLTensor* lse_or_null = with_lse ? &static_cast<const DLTensor&>(lv) : nullptr;
    std::vector<char> memory(attention_forward_workspace_bytes(qv, kv, vv, ov, lse_or_null, options) + 512);
    char* aligned = memory.data() + (256 - reinterpret_cast<std::uintptr_t>(memory.data()) % 256);
    attention_forward(qv, kv, vv, ov, lse_or_null, options, {aligned, memory.size() - 512 - spare_workspace});
  }
};

std::string refusal(const std::function<void()>& call, ErrorCode code = ErrorCode::invalid_argument) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

void expect_refusal(const std::function<void(Call&)>& spoil, const std::vector<std::string>& words) {
  Call call;
  spoil(call);
  const std::string sentence = refusal([&] { call.run(); });
  for (const std::string& word : words)
    EXPECT_NE(sentence.find(word), std::string::npos) << "'" << word << "' in: " << sentence;
}

TEST(AttentionApi, AMistakeIsNamedWithWhatIsAccepted) {
  expect_refusal([](Call& c) { c.q_shape = {2, 2, 8}; }, {"q has 3 dimensions", "accepted: 4"});
  expect_refusal([](Call& c) { c.q_shape = {1, 2, 2, 12}; }, {"q has the head dimension 12", "multiples of 8"});
  expect_refusal([](Call& c) { c.q_shape = {1, 1, 1, 264}; }, {"q has the head dimension 264", "8 to 256"});
  expect_refusal([](Call& c) { c.q_shape = {1, -2, 2, 8}; }, {"q", "negative"});
  expect_refusal([](Call& c) { c.k_shape = {1, 3, 1, 16}; }, {"k has the head dimension 16", "accepted: 8"});
  expect_refusal(
      [](Call& c) {
        c.k_shape = {2, 3, 1, 8}, c.v_shape = {2, 3, 1, 8};
      },
      {"k has the batch 2", "accepted: 1"});
  expect_refusal([](Call& c) { c.k_shape = c.v_shape = {1, 3, 3, 8}; }, {"k has 3 heads", "divisor of the 2 heads"});
  expect_refusal([](Call& c) { c.k_shape = c.v_shape = {1, 3, 0, 8}; }, {"k has 0 heads", "divisor"});
  expect_refusal([](Call& c) { c.v_shape = {1, 4, 1, 8}; }, {"v has the shape [1, 4, 1, 8]", "accepted: [1, 3, 1, 8]"});
  expect_refusal([](Call& c) { c.v_shape = {1, 3, 1, 4}; }, {"v has the head dimension 4"});
  expect_refusal([](Call& c) { c.o_shape = {1, 2, 2, 16}; }, {"o has the shape", "accepted: [1, 2, 2, 8]"});
  expect_refusal([](Call& c) { c.lse_shape = {1, 2, 3}; }, {"lse has the shape", "[batch, heads, seqlen_q]"});
  expect_refusal([](Call& c) { c.lse_shape = {2, 2}; }, {"lse has 2 dimensions", "accepted: 3"});
  expect_refusal([](Call& c) { c.q_strides = {32, 16, 8, 2}; }, {"q has the inner stride 2", "accepted: 1"});
  expect_refusal([](Call& c) { c.k_strides = {24, -8, 8, 1}; }, {"k has the stride -8 in dimension 1", "0 or more"});
  expect_refusal(
      [](Call& c) {
        c.q_strides = {32, std::numeric_limits<std::int64_t>::max() / 2, 8, 1};
      },
      {"q", "64 bits"});
  expect_refusal([](Call& c) { c.o_strides = {32, 8, 8, 1}; }, {"o has the stride 8", "share memory"});
  expect_refusal([](Call& c) { c.lse_strides = {4, 1, 1}; }, {"lse has the stride 1", "share memory"});
  expect_refusal([](Call& c) { c.options.softmax_scale = -1; }, {"options.softmax_scale is -1", "positive"});
  expect_refusal([](Call& c) { c.options.softmax_scale = std::nanf(""); }, {"options.softmax_scale"});
  expect_refusal([](Call& c) { c.options.softcap = -2; }, {"options.softcap is -2"});
  expect_refusal([](Call& c) { c.options.softcap = INFINITY; }, {"options.softcap is inf"});
  expect_refusal([](Call& c) { c.options.window_left = -2; }, {"options.window_left is -2", "-1 for no limit"});
  expect_refusal([](Call& c) { c.options.window_right = -7; }, {"options.window_right is -7"});
  expect_refusal([](Call& c) { c.options.num_splits = 65; }, {"options.num_splits is 65", "to 64"});
  expect_refusal([](Call& c) { c.options.num_splits = -1; }, {"options.num_splits is -1"});
}

TEST(AttentionApi, DtypesAndDevices) {
  Call call;
  const auto spoil_v = [&](auto change) {
    View v = call.v_view();
    change(v.fields);
    return refusal([&] { call.run(call.q_view(), call.k_view(), v, call.o_view(), call.lse_view()); });
  };
  EXPECT_NE(spoil_v([](DLTensor& v) {
              v.dtype = {kDLFloat, 64, 1};
            }).find("v is float64, but the other tensors are float32"),
            std::string::npos);
  EXPECT_NE(spoil_v([](DLTensor& v) {
              v.device = {kDLCUDA, 0};
            }).find("v is on CUDA device 0, but q is on the host"),
            std::string::npos);
  EXPECT_NE(spoil_v([](DLTensor& v) { v.data = nullptr; }).find("v has a null data pointer"), std::string::npos);
  View lse = call.lse_view();
  lse.fields.dtype = {kDLFloat, 16, 1};
  const std::string sentence =
      refusal([&] { call.run(call.q_view(), call.k_view(), call.v_view(), call.o_view(), lse); });
  EXPECT_NE(sentence.find("lse is float16, accepted: float32"), std::string::npos) << sentence;
}

TEST(AttentionApi, WrongTensorsOfOptions) {
  const auto with = [](const std::function<void(Call&, View&)>& spoil, std::vector<std::string> words) {
    Call call;
    call.q_shape = {3, 2, 8}, call.o_shape = {3, 2, 8}, call.lse_shape = {2, 3};
    call.k_shape = call.v_shape = {3, 1, 8};
    call.cu_q = {0, 1, 3}, call.cu_k = {0, 3, 3};
    View cu_q = test::view(call.cu_q), cu_k = test::view(call.cu_k);
    call.options.max_seqlen_q = 2, call.options.max_seqlen_k = 3;
    call.options.cu_seqlens_q = &cu_q.fields, call.options.cu_seqlens_k = &cu_k.fields;
    spoil(call, cu_q);
    if (words.empty()) {
      EXPECT_NO_THROW(call.run());
      return;
    }
    const std::string sentence = refusal([&] { call.run(); });
    for (const std::string& word : words)
      EXPECT_NE(sentence.find(word), std::string::npos) << "'" << word << "' in: " << sentence;
  };
  with([](Call&, View&) {}, {});
  with([](Call& c, View&) { c.cu_q[0] = 1; }, {"options.cu_seqlens_q[0] is 1", "accepted: 0"});
  with([](Call& c, View&) { c.cu_q[1] = 4; }, {"options.cu_seqlens_q", "rows"});
  with([](Call& c, View&) { c.cu_q = {0, 2, 1}; }, {"options.cu_seqlens_q[2] is 1", "never fall"});
  with([](Call& c, View&) { c.options.max_seqlen_q = 1; }, {"options.cu_seqlens_q[2] is 3", "options.max_seqlen_q"});
  with([](Call& c, View&) { c.options.max_seqlen_q = 0; }, {"options.max_seqlen_q is 0", "the longest sequence"});
  with([](Call& c, View&) { c.options.max_seqlen_k = 2; }, {"options.cu_seqlens_k[1] is 3", "options.max_seqlen_k"});
  with(
      [](Call&, View& cu) {
        cu.fields.dtype = {kDLInt, 64, 1};
      },
      {"options.cu_seqlens_q is int64", "accepted: int32"});
  with([](Call&, View& cu) { cu.shape[0] = 0; }, {"options.cu_seqlens_q has the shape [0]", "[batch + 1]"});
  with([](Call&, View& cu) { cu.shape[0] = 2; }, {"options.cu_seqlens_k has the shape [3]", "accepted: [2]"});
  with([](Call& c, View& cu) { c.options.seqused_k = &cu.fields; },
       {"options.cu_seqlens_k is given with options.seqused_k"});
  with([](Call& c, View& cu) { c.options.block_table = &cu.fields; },
       {"options.cu_seqlens_k is given with options.block_table"});
}

TEST(AttentionApi, CachesAndPages) {
  const auto with = [](const std::function<void(Call&)>& spoil, std::vector<std::string> words) {
    Call call;
    call.k_shape = call.v_shape = {4, 16, 1, 8};
    call.used = {20};
    call.table = {3, 1, -5};
    spoil(call);
    View used = test::view(call.used),
         table = test::view(call.table, {1, static_cast<std::int64_t>(call.table.size())});
    call.options.seqused_k = &used.fields;
    call.options.block_table = &table.fields;
    if (words.empty()) {
      EXPECT_NO_THROW(call.run());
      return;
    }
    const std::string sentence = refusal([&] { call.run(); });
    for (const std::string& word : words)
      EXPECT_NE(sentence.find(word), std::string::npos) << "'" << word << "' in: " << sentence;
  };
  with([](Call&) {}, {});  // the third entry is never read
  with([](Call& c) { c.used = {33}; }, {"options.block_table[0][2] is -5", "accepted: 0 to 3"});
  with([](Call& c) { c.used = {49}; }, {"options.seqused_k[0] is 49", "accepted: 0 to 48"});
  with([](Call& c) { c.used = {-1}; }, {"options.seqused_k[0] is -1"});
  with([](Call& c) { c.options.max_seqlen_k = 19; }, {"options.seqused_k[0] is 20", "accepted: 0 to 19"});
  with([](Call& c) { c.used = {1, 2}; }, {"options.seqused_k has the shape [2]", "accepted: [1]"});
  with(
      [](Call& c) {
        c.k_shape = c.v_shape = {4, 24, 1, 8};
      },
      {"k has pages of 24 rows", "accepted: 16, 32, 64, 128 or 256"});
  Call call;
  View table = test::view(call.table, {1, 0});
  call.options.block_table = &table.fields;
  EXPECT_NE(refusal([&] { call.run(); }).find("options.block_table needs options.seqused_k"), std::string::npos);
}

TEST(AttentionApi, OverlapsAreRefusedAndNeighboursAreNot) {
  Call call;
  const auto overlapping = [&](std::vector<float>& memory, std::int64_t offset, Shape shape) {
    View o = test::view(memory, std::move(shape));
    o.fields.data = memory.data() + offset;
    return refusal([&] { call.run(call.q_view(), call.k_view(), call.v_view(), o, call.lse_view()); });
  };
  EXPECT_NE(overlapping(call.q, 8, {1, 2, 2, 8}).find("o overlaps q"), std::string::npos);
  EXPECT_NE(overlapping(call.v, 16, {1, 2, 2, 8}).find("o overlaps v"), std::string::npos);
  EXPECT_NE(overlapping(call.lse, 0, {1, 2, 2, 8}).find("lse overlaps o"), std::string::npos);

  // Q, K, V and O side by side in one buffer, [2 sequences, 3 positions, 4 (q k v o), 2 heads, 8].
  std::vector<float> packed(2 * 3 * 4 * 2 * 8);
  for (std::size_t i = 0; i < packed.size(); ++i) packed[i] = std::sin(static_cast<float>(i));
  const auto part = [&](int which) {
    View view = test::view(packed, {2, 3, 2, 8}, {3 * 64, 64, 8, 1});
    view.fields.data = packed.data() + which * 16;
    return view;
  };
  std::vector<float> lse(2 * 2 * 3);
  call.run(part(0), part(1), part(2), part(3), test::view(lse, {2, 2, 3}));
  EXPECT_EQ(last_kernel(), "cpu_attention_forward");
}

TEST(AttentionApi, TheWorkspaceIsChecked) {
  Call call;
  call.spare_workspace = 1;
  EXPECT_NE(refusal([&] { call.run(); }, ErrorCode::out_of_memory).find("workspace.bytes is"), std::string::npos);
}

// Two queries, three keys, written out.
TEST(AttentionApi, GivesTheDefinition) {
  Call call;
  call.options.causal = true;
  call.options.softmax_scale = 0.5f;
  View sinks = test::view(call.sinks);
  call.sinks = {0.25f, -1.0f};
  call.options.sinks = &sinks.fields;
  call.run();
  for (int h = 0; h < 2; ++h)
    for (int i = 0; i < 2; ++i) {
      double sum = std::exp(call.sinks[static_cast<std::size_t>(h)]), expected[8] = {};
      for (int j = 0; j <= i + 1; ++j) {
        double dot = 0;
        for (int d = 0; d < 8; ++d)
          dot += call.q[static_cast<std::size_t>((i * 2 + h) * 8 + d)] * call.k[static_cast<std::size_t>(j * 8 + d)];
        const double weight = std::exp(0.5 * dot);
        sum += weight;
        for (int d = 0; d < 8; ++d) expected[d] += weight * call.v[static_cast<std::size_t>(j * 8 + d)];
      }
      EXPECT_NEAR(call.lse[static_cast<std::size_t>(h * 2 + i)], std::log(sum), 1e-6);
      for (int d = 0; d < 8; ++d)
        EXPECT_NEAR(call.o[static_cast<std::size_t>((i * 2 + h) * 8 + d)], expected[d] / sum, 1e-5);
    }
}

TEST(AttentionApi, EmptySizes) {
  Call call;
  for (const Shape& q : {Shape{0, 2, 2, 8}, Shape{1, 0, 2, 8}, Shape{1, 2, 0, 8}}) {
    call.q_shape = call.o_shape = q;
    call.lse_shape = {q[0], q[2], q[1]};
    call.k_shape = call.v_shape = {q[0], 3, 1, 8};
    call.run();
    EXPECT_EQ(last_kernel(), "") << "no query needs no kernel";
  }
  Call no_keys;
  no_keys.k_shape = no_keys.v_shape = {1, 0, 1, 8};
  no_keys.run();
  EXPECT_EQ(last_kernel(), "cpu_attention_forward");
  for (int i = 0; i < 32; ++i) EXPECT_EQ(no_keys.o[static_cast<std::size_t>(i)], 0.0f);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(no_keys.lse[static_cast<std::size_t>(i)], -INFINITY);
  View k = no_keys.k_view(), v = no_keys.v_view();
  k.fields.data = v.fields.data = nullptr;  // an empty tensor may have none
  EXPECT_NO_THROW(no_keys.run(no_keys.q_view(), k, v, no_keys.o_view(), no_keys.lse_view()));
}

TEST(AttentionApi, ForcedKernels) {
  Call call;
  {
    const testing::ForcedKernel forced("cpu_attention_forward");
    call.run();
    EXPECT_EQ(last_kernel(), "cpu_attention_forward");
  }
  const testing::ForcedKernel forced("sm17_attention_forward");
  const std::string sentence = refusal([&] { call.run(); }, ErrorCode::unsupported);
  EXPECT_NE(sentence.find("sm17_attention_forward"), std::string::npos) << sentence;
  EXPECT_NE(sentence.find("cpu_attention_forward"), std::string::npos) << "the known names are listed: " << sentence;
}

TEST(AttentionCApi, ForwardAndErrors) {
  Call call;
  View q = call.q_view(), k = call.k_view(), v = call.v_view(), o = call.o_view(), lse = call.lse_view();
  triage_attention_options options = triage_attention_defaults();
  EXPECT_EQ(options.window_left, -1);
  EXPECT_EQ(options.window_right, -1);
  EXPECT_EQ(options.num_splits, 0);
  options.causal = 1;
  std::size_t bytes = 0;
  ASSERT_EQ(triage_attention_forward_workspace_bytes(&q.fields, &k.fields, &v.fields, &o.fields, &lse.fields, &options,
                                                     &bytes),
            TRIAGE_OK);
  std::vector<char> memory(bytes + 256);
  const triage_workspace workspace{memory.data() + (256 - reinterpret_cast<std::uintptr_t>(memory.data()) % 256),
                                   bytes};
  ASSERT_EQ(
      triage_attention_forward(&q.fields, &k.fields, &v.fields, &o.fields, &lse.fields, &options, &workspace, nullptr),
      TRIAGE_OK)
      << triage_last_error();
  EXPECT_STREQ(triage_last_kernel(), "cpu_attention_forward");
  Call same;
  same.options.causal = true;
  same.run();
  EXPECT_EQ(call.o, same.o);
  EXPECT_EQ(call.lse, same.lse);
  options.causal = 2;
  EXPECT_EQ(
      triage_attention_forward(&q.fields, &k.fields, &v.fields, &o.fields, nullptr, &options, &workspace, nullptr),
      TRIAGE_INVALID_ARGUMENT);
  EXPECT_NE(std::string(triage_last_error()).find("options.causal is 2"), std::string::npos);
  EXPECT_EQ(triage_attention_forward(&q.fields, nullptr, &v.fields, &o.fields, nullptr, nullptr, nullptr, nullptr),
            TRIAGE_INVALID_ARGUMENT);
  EXPECT_STREQ(triage_last_error(), "k is NULL");
}

}  // namespace
}  // namespace triage
