// AttentionPattern: every source of blocks gives the same masks, every mistake gets a sentence that names the argument,
// and attention refuses a pattern that does not fit the call.
#include "triage/attention_pattern.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "device/memory.h"
#include "triage/triage.h"
#include "unit/pattern_cases.h"
#include "unit/tensor_view.h"

namespace triage {
namespace {

using test::View;
using Bytes = std::vector<std::uint8_t>;
using Ints = std::vector<std::int32_t>;

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

void expect_words(const std::string& sentence, const std::vector<std::string>& words) {
  for (const std::string& word : words)
    EXPECT_NE(sentence.find(word), std::string::npos) << "'" << word << "' in: " << sentence;
}

Bytes bytes_of(const AttentionPattern& pattern) {
  const std::int64_t rows = (pattern.seqlen_q() + pattern.block_q() - 1) / pattern.block_q();
  const std::int64_t cols = (pattern.seqlen_k() + pattern.block_k() - 1) / pattern.block_k();
  Bytes bytes(static_cast<std::size_t>(pattern.batch() * pattern.heads() * rows * cols), 77);
  pattern.to_mask(test::view(bytes, {pattern.batch(), pattern.heads(), rows, cols}));
  return bytes;
}

// 2 sequences, 3 heads, 4 x 5 blocks, some rows empty; `most` 2 marks some as full.
struct Masks {
  static constexpr std::int64_t kBatch = 2, kHeads = 3, kRows = 4, kCols = 5, kQ = 250, kK = 600;
  Bytes bytes;
  explicit Masks(unsigned seed, std::uint8_t most = 2) {
    std::mt19937 random(seed);
    for (std::int64_t i = 0; i < kBatch * kHeads * kRows * kCols; ++i)
      bytes.push_back(i / kCols % 7 == 3 ? 0 : static_cast<std::uint8_t>(random() % (most + 1)));
  }
  View view() const { return test::view(bytes, {kBatch, kHeads, kRows, kCols}); }
  AttentionPattern pattern() const { return AttentionPattern::from_mask(view(), kQ, kK, 64, 128); }
};

// Lists of the blocks that are `value`, backwards, the first of them twice; what counts not is no block at all.
struct Lists {
  static constexpr std::int64_t kWidth = Masks::kCols + 2;
  std::vector<std::int64_t> indices;
  Ints counts;
  Lists(const Bytes& bytes, std::uint8_t value) {
    for (std::size_t row = 0; row < bytes.size() / Masks::kCols; ++row) {
      const std::size_t begin = indices.size();
      for (std::int64_t c = Masks::kCols - 1; c >= 0; --c)
        if (bytes[row * Masks::kCols + static_cast<std::size_t>(c)] == value) indices.push_back(c);
      if (indices.size() > begin) indices.push_back(indices[begin]);
      counts.push_back(static_cast<std::int32_t>(indices.size() - begin));
      indices.resize((row + 1) * kWidth, 999);
    }
  }
  View view() const { return test::view(indices, {Masks::kBatch, Masks::kHeads, Masks::kRows, kWidth}); }
  View counts_view() const { return test::view(counts, {Masks::kBatch, Masks::kHeads, Masks::kRows}); }
};

// Rows of blocks that are not 0, the masks one after another in one array of columns.
struct Csr {
  Ints crow;
  std::vector<std::int64_t> col;
  explicit Csr(const Bytes& bytes) {
    for (std::size_t mask = 0; mask < bytes.size() / (Masks::kRows * Masks::kCols); ++mask) {
      crow.push_back(static_cast<std::int32_t>(col.size()));
      for (std::int64_t r = 0; r < Masks::kRows; ++r) {
        for (std::int64_t c = 0; c < Masks::kCols; ++c)
          if (bytes[(mask * Masks::kRows + static_cast<std::size_t>(r)) * Masks::kCols + static_cast<std::size_t>(c)])
            col.push_back(c);
        crow.push_back(static_cast<std::int32_t>(col.size()));
      }
    }
  }
  View crow_view() const { return test::view(crow, {Masks::kBatch, Masks::kHeads, Masks::kRows + 1}); }
};

TEST(AttentionPattern, EverySourceGivesTheSameMasks) {
  const Masks masks(1);
  const AttentionPattern from_mask = masks.pattern();
  EXPECT_EQ(from_mask.batch(), 2);
  EXPECT_EQ(from_mask.heads(), 3);
  EXPECT_EQ(from_mask.seqlen_q(), 250);
  EXPECT_EQ(from_mask.seqlen_k(), 600);
  EXPECT_EQ(from_mask.block_q(), 64);
  EXPECT_EQ(from_mask.block_k(), 128);
  EXPECT_EQ(from_mask.device().device_type, kDLCPU);
  EXPECT_FALSE(from_mask.has_elements());
  EXPECT_EQ(bytes_of(from_mask), masks.bytes);

  const Lists listed(masks.bytes, 1), full(masks.bytes, 2);
  const View indices = listed.view(), counts = listed.counts_view(), full_indices = full.view(),
             full_counts = full.counts_view();
  const AttentionBlockLists lists{&indices.fields, &counts.fields, &full_indices.fields, &full_counts.fields};
  EXPECT_EQ(bytes_of(AttentionPattern::from_lists(lists, Masks::kQ, Masks::kK, 64, 128)), masks.bytes);

  const Masks ones(2, 1);
  const Csr csr(ones.bytes);
  EXPECT_EQ(bytes_of(AttentionPattern::from_csr(csr.crow_view(), test::view(csr.col), Masks::kQ, Masks::kK, 64, 128)),
            ones.bytes);
}

TEST(AttentionPattern, UpdatesReplaceAllBlocks) {
  const Masks first(1), second(2), ones(3, 1);
  AttentionPattern pattern = first.pattern();
  const AttentionPattern copy = pattern;  // shares the data
  pattern.update_mask(second.view());
  EXPECT_EQ(bytes_of(copy), second.bytes);
  const Csr csr(ones.bytes);
  pattern.update_csr(csr.crow_view(), test::view(csr.col));
  EXPECT_EQ(bytes_of(pattern), ones.bytes);
  const Lists listed(first.bytes, 1), full(first.bytes, 2);
  const View indices = listed.view(), counts = listed.counts_view(), full_indices = full.view(),
             full_counts = full.counts_view();
  pattern.update_lists({&indices.fields, &counts.fields, &full_indices.fields, &full_counts.fields});
  EXPECT_EQ(bytes_of(pattern), first.bytes);
}

TEST(AttentionPattern, FromABlockPattern) {
  std::mt19937 random(5);
  for (const int block : {64, 128}) {
    const test::PatternCase made = test::make_case(5 * block - 3, 7 * block, block, 0.4, random);
    const BlockPattern blocks =
        BlockPattern::from_bsr(test::view(made.crow), test::view(made.col), made.rows, made.cols, block);
    Bytes expected = made.mask;
    for (std::uint8_t& byte : expected) byte = byte != 0;
    const AttentionPattern pattern = AttentionPattern::from_pattern(blocks);
    EXPECT_EQ(pattern.seqlen_q(), made.rows);
    EXPECT_EQ(pattern.seqlen_k(), made.cols);
    EXPECT_EQ(pattern.block_q(), block);
    EXPECT_EQ(bytes_of(pattern), expected);
  }
  const test::PatternCase small = test::make_case(64, 64, 32, 0.5, random);
  const BlockPattern blocks = BlockPattern::from_bsr(test::view(small.crow), test::view(small.col), 64, 64, 32);
  expect_words(refusal([&] { AttentionPattern::from_pattern(blocks); }), {"pattern has blocks of 32", "64, 128"});
}

TEST(AttentionPattern, MistakesInMasksAreNamed) {
  const Masks masks(1);
  const auto make = [&](const View& view, std::int64_t q, std::int64_t k, int block_q, int block_k) {
    return refusal([&] { AttentionPattern::from_mask(view, q, k, block_q, block_k); });
  };
  const View right = masks.view();
  for (const int block : {0, -64, 16, 32, 63, 96, 127, 256}) {
    expect_words(make(right, 250, 600, block, 128), {"block_q is " + std::to_string(block), "accepted: 64, 128"});
    expect_words(make(right, 250, 600, 64, block), {"block_k is " + std::to_string(block), "accepted: 64, 128"});
  }
  expect_words(make(right, -1, 600, 64, 128), {"seqlen_q is -1"});
  expect_words(make(right, 250, std::int64_t{1} << 40, 64, 128), {"seqlen_k is 1099511627776"});
  expect_words(make(right, 257, 600, 64, 128), {"mask has the shape [2, 3, 4, 5]", "[2, 3, 5, 5]", "block_q"});
  expect_words(make(right, 192, 600, 64, 128), {"mask has the shape", "[2, 3, 3, 5]"});
  expect_words(make(right, 250, 641, 64, 128), {"mask has the shape", "[2, 3, 4, 6]"});
  expect_words(make(right, 250, 600, 64, 64), {"mask has the shape", "[2, 3, 4, 10]"});
  expect_words(make(test::view(masks.bytes, {6, 4, 5}), 250, 600, 64, 128), {"mask has 3 dimensions", "accepted: 4"});
  expect_words(make(test::view(masks.bytes, {0, 3, 4, 5}), 250, 600, 64, 128), {"mask has the shape [0, 3, 4, 5]"});
  expect_words(make(test::view(masks.bytes, {2, 0, 4, 5}), 250, 600, 64, 128), {"mask has the shape [2, 0, 4, 5]"});
  expect_words(make(test::view(masks.bytes, {2, 3, 4, 5}, {60, 20, 1, 4}), 250, 600, 64, 128),
               {"mask has the stride", "contiguous"});
  const Ints numbers(120);
  expect_words(make(test::view(numbers, {2, 3, 4, 5}), 250, 600, 64, 128), {"mask is int32", "bool, uint8"});
  View null = masks.view();
  null.fields.data = nullptr;
  expect_words(make(null, 250, 600, 64, 128), {"mask"});
  View elsewhere = masks.view();
  elsewhere.fields.device = {kDLMetal, 0};
  expect_words(make(elsewhere, 250, 600, 64, 128), {"mask is on"});

  AttentionPattern pattern = masks.pattern();
  expect_words(refusal([&] { pattern.update_mask(test::view(masks.bytes, {3, 2, 4, 5})); }),
               {"mask has the shape [3, 2, 4, 5]", "batch 2", "heads 3"});
  expect_words(refusal([&] { pattern.update_mask(test::view(masks.bytes, {2, 3, 5, 4})); }), {"mask has the shape"});
  EXPECT_EQ(bytes_of(pattern), masks.bytes) << "a refused update changes nothing";
}

TEST(AttentionPattern, MistakesInListsAreNamed) {
  const Masks masks(1);
  Lists listed(masks.bytes, 1);
  const View counts = listed.counts_view();
  const auto make = [&](const AttentionBlockLists& lists) {
    return refusal([&] { AttentionPattern::from_lists(lists, Masks::kQ, Masks::kK, 64, 128); });
  };
  const View indices = listed.view();
  expect_words(make({}), {"lists.indices is null"});
  expect_words(make({&indices.fields}), {"lists.indices holds 999", "below 5"});  // without counts all count
  expect_words(make({&indices.fields, &counts.fields, nullptr, &counts.fields}), {"lists.full_counts", "both"});
  const View long_indices = test::view(listed.indices, {2, 3, 2, 14});
  expect_words(make({&long_indices.fields}), {"lists.indices has the shape [2, 3, 2, 14]", "[2, 3, 4, 14]"});
  const View few_counts = test::view(listed.counts, {2, 3, 2});
  expect_words(make({&indices.fields, &few_counts.fields}), {"lists.counts has the shape [2, 3, 2]"});
  const std::vector<float> floats(2 * 3 * 4 * 2);
  const View float_indices = test::view(floats, {2, 3, 4, 2});
  expect_words(make({&float_indices.fields}), {"lists.indices is float32", "int32, int64"});
  listed.counts[3] = 8;
  expect_words(make({&indices.fields, &counts.fields}), {"lists.counts holds 8 in row 3", "0 to 7"});
  listed.counts[3] = -1;
  expect_words(make({&indices.fields, &counts.fields}), {"lists.counts holds -1 in row 3"});
}

TEST(AttentionPattern, MistakesInCsrAreNamed) {
  const Masks masks(1);
  const Csr right(masks.bytes);
  const auto spoilt = [&](const std::function<void(Csr&)>& spoil) {
    Csr csr = right;
    spoil(csr);
    return refusal([&] {
      AttentionPattern::from_csr(csr.crow_view(), test::view(csr.col), Masks::kQ, Masks::kK, 64, 128);
    });
  };
  expect_words(spoilt([](Csr& c) { c.col[4] = 5; }), {"col_indices holds 5 at 4", "0 to 4"});
  expect_words(spoilt([](Csr& c) { c.col[0] = -1; }), {"col_indices holds -1 at 0"});
  expect_words(spoilt([](Csr& c) { c.crow[2] = c.crow[1] - 1; }), {"crow_indices holds", "at 2", "never falling"});
  expect_words(spoilt([](Csr& c) { c.crow.back() += 1; }), {"crow_indices holds"});
  expect_words(spoilt([](Csr& c) { c.crow[0] = -1; }), {"crow_indices holds -1 at 0"});
  const View crow = right.crow_view(), col = test::view(right.col);
  expect_words(refusal([&] { AttentionPattern::from_csr(crow, col, 300, 600, 64, 128); }),
               {"crow_indices has the shape [2, 3, 5]", "[2, 3, 6]"});
}

TEST(AttentionPattern, MistakesInElementsAreNamed) {
  const Masks masks(1);
  AttentionPattern pattern = masks.pattern();
  Ints index(masks.bytes.size(), -1);
  const Bytes elements(3 * 64 * 128, 1);
  const View right_index = test::view(index, {2, 3, 4, 5}), right = test::view(elements, {3, 64, 128});
  const auto set = [&](const View& i, const View& e) { return refusal([&] { pattern.set_elements(i, e); }); };
  expect_words(set(right_index, test::view(elements, {3, 128, 64})),
               {"elements has the shape [3, 128, 64]", "64, 128"});
  expect_words(set(right_index, test::view(elements, {0, 64, 128})), {"elements holds 0 blocks", "1 to"});
  expect_words(set(test::view(index, {3, 2, 4, 5}), right), {"index has the shape [3, 2, 4, 5]", "[2, 3, 4, 5]"});
  const std::vector<std::int64_t> wide(masks.bytes.size(), -1);
  expect_words(set(test::view(wide, {2, 3, 4, 5}), right), {"index is int64", "int32"});
  index[7] = 3;
  expect_words(set(right_index, right), {"index holds 3 at 7", "-1 to 2"});
  index[7] = -2;
  expect_words(set(right_index, right), {"index holds -2 at 7"});
  EXPECT_FALSE(pattern.has_elements());
  index[7] = 2;
  pattern.set_elements(right_index, right);
  EXPECT_TRUE(pattern.has_elements());
  EXPECT_EQ(bytes_of(pattern), masks.bytes);
}

TEST(AttentionPattern, AnEmptyOneIsRefused) {
  AttentionPattern pattern;
  const Masks masks(1);
  expect_words(refusal([&] { pattern.update_mask(masks.view()); }), {"empty", "from_mask"});
  expect_words(refusal([&] { pattern.set_elements(masks.view(), masks.view()); }), {"empty"});
  expect_words(refusal([&] { pattern.to_mask(masks.view()); }), {"empty"});
  EXPECT_EQ(pattern.batch(), 0);
  EXPECT_EQ(pattern.block_q(), 0);
  EXPECT_FALSE(pattern.has_elements());
}

TEST(AttentionPattern, WithoutQueriesOrKeys) {
  const Bytes none;
  for (const auto& [q, k] : {std::pair<std::int64_t, std::int64_t>{0, 100}, {100, 0}, {0, 0}}) {
    const AttentionPattern pattern =
        AttentionPattern::from_mask(test::view(none, {1, 1, (q + 63) / 64, (k + 63) / 64}), q, k, 64, 64);
    EXPECT_EQ(pattern.seqlen_q(), q);
    EXPECT_EQ(pattern.seqlen_k(), k);
  }
}

// A call with a pattern, forward and backward: [2, 100, 4, 8] queries, [2, 150, 2, 8] keys.
struct Call {
  std::vector<float> q, k, v, o, lse, d_o, d_q, d_k, d_v;
  std::int64_t batch = 2, seqlen_q = 100, seqlen_k = 150;
  AttentionOptions options;
  bool packed = false;

  Call() {
    for (std::vector<float>* rows : {&q, &o, &d_o, &d_q}) rows->resize(2 * 100 * 4 * 8);
    for (std::vector<float>* rows : {&k, &v, &d_k, &d_v}) rows->resize(2 * 150 * 2 * 8);
    lse.resize(2 * 4 * 100);
    for (std::size_t i = 0; i < q.size(); ++i) q[i] = std::sin(static_cast<float>(i)), d_o[i] = std::cos(q[i] * 9);
    for (std::size_t i = 0; i < k.size(); ++i) k[i] = std::cos(static_cast<float>(3 * i)), v[i] = std::sin(k[i] * 7);
  }

  View rows(const std::vector<float>& data, std::int64_t length, std::int64_t heads) const {
    return packed ? test::view(data, {batch * length, heads, 8}) : test::view(data, {batch, length, heads, 8});
  }

  void run_forward() {
    const View lv = packed ? test::view(lse, {4, batch * seqlen_q}) : test::view(lse, {batch, 4, seqlen_q});
    const View qv = rows(q, seqlen_q, 4), ov = rows(o, seqlen_q, 4), kv = rows(k, seqlen_k, 2),
               vv = rows(v, seqlen_k, 2);
    const Buffer memory({kDLCPU, 0}, attention_forward_workspace_bytes(qv, kv, vv, ov, &lv.fields, options), nullptr);
    attention_forward(qv, kv, vv, ov, &lv.fields, options, {memory.data(), memory.bytes()});
  }
  void run_backward() {
    const View lv = packed ? test::view(lse, {4, batch * seqlen_q}) : test::view(lse, {batch, 4, seqlen_q});
    const View qv = rows(q, seqlen_q, 4), ov = rows(o, seqlen_q, 4), kv = rows(k, seqlen_k, 2),
               vv = rows(v, seqlen_k, 2);
    const View d_ov = rows(d_o, seqlen_q, 4), d_qv = rows(d_q, seqlen_q, 4), d_kv = rows(d_k, seqlen_k, 2),
               d_vv = rows(d_v, seqlen_k, 2);
    const AttentionBackwardInputs in{&qv.fields, &kv.fields, &vv.fields, &ov.fields, &lv.fields, &d_ov.fields, nullptr};
    const AttentionBackwardOutputs out{&d_qv.fields, &d_kv.fields, &d_vv.fields, nullptr};
    const Buffer memory({kDLCPU, 0}, attention_backward_workspace_bytes(in, out, options), nullptr);
    attention_backward(in, out, options, GradientOrder::deterministic, {memory.data(), memory.bytes()});
  }
};

// Masks [batch, heads, 2, 3] of 64 x 64 blocks for seqlen_q 100, seqlen_k 150.
AttentionPattern pattern_of(std::int64_t batch, std::int64_t heads, std::uint8_t value = 1) {
  const Bytes bytes(static_cast<std::size_t>(batch * heads * 2 * 3), value);
  return AttentionPattern::from_mask(test::view(bytes, {batch, heads, 2, 3}), 100, 150, 64, 64);
}

void expect_refusal(const AttentionPattern& pattern, const std::function<void(Call&)>& spoil,
                    const std::vector<std::string>& words, bool forward_only = false) {
  Call call;
  call.options.pattern = &pattern;
  spoil(call);
  expect_words(refusal([&] { call.run_forward(); }), words);
  if (!forward_only) expect_words(refusal([&] { call.run_backward(); }), words);
}

TEST(AttentionWithPattern, APatternThatDoesNotFitIsRefused) {
  const auto nothing = [](Call&) {};
  expect_refusal(AttentionPattern(), nothing, {"options.pattern is empty", "from_mask"});
  expect_refusal(pattern_of(3, 1), nothing, {"options.pattern has masks for a batch of 3", "1 or 2"});
  expect_refusal(pattern_of(1, 3), nothing, {"options.pattern has masks for 3 heads", "accepted: 1, 2", "4"});
  expect_refusal(pattern_of(2, 8), nothing, {"options.pattern has masks for 8 heads"});
  expect_refusal(pattern_of(1, 1), [](Call& c) { c.seqlen_q = 99; },
                 {"options.pattern has seqlen_q 100", "accepted: 99"});
  expect_refusal(pattern_of(1, 1), [](Call& c) { c.seqlen_k = 149; },
                 {"options.pattern has seqlen_k 150", "accepted: 149"});
  const Ints cu_q{0, 100, 200}, cu_k{0, 150, 300};
  const View cu_q_view = test::view(cu_q), cu_k_view = test::view(cu_k);
  const auto pack = [&](Call& c) {
    c.packed = true;
    c.options.cu_seqlens_q = &cu_q_view.fields, c.options.cu_seqlens_k = &cu_k_view.fields;
    c.options.max_seqlen_q = 101, c.options.max_seqlen_k = 150;
  };
  expect_refusal(pattern_of(1, 1), pack,
                 {"options.pattern has seqlen_q 100", "accepted: 101", "options.max_seqlen_q"});
}

// max_seqlen_q and max_seqlen_k are upper bounds; the pattern is made for those, also above the rows that there are.
TEST(AttentionWithPattern, BoundsMayExceedThePackedRows) {
  const Ints cu_q{0, 30, 200}, cu_k{0, 150, 300};
  const View cu_q_view = test::view(cu_q), cu_k_view = test::view(cu_k);
  const Bytes tight{1, 0, 1, 0, 1, 0, 1, 1, 0};  // of 170 x 150
  Bytes wide(16 * 16, 1);                        // of 1000 x 1000
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j) wide[i * 16 + j] = tight[i * 3 + j];
  const AttentionPattern exact = AttentionPattern::from_mask(test::view(tight, {1, 1, 3, 3}), 170, 150, 64, 64),
                         bounds = AttentionPattern::from_mask(test::view(wide, {1, 1, 16, 16}), 1000, 1000, 64, 64);
  Call a, b;
  for (Call* call : {&a, &b}) {
    call->packed = true;
    call->options.cu_seqlens_q = &cu_q_view.fields, call->options.cu_seqlens_k = &cu_k_view.fields;
  }
  a.options.pattern = &exact, a.options.max_seqlen_q = 170, a.options.max_seqlen_k = 150;
  b.options.pattern = &bounds, b.options.max_seqlen_q = b.options.max_seqlen_k = 1000;
  for (Call* call : {&a, &b}) call->run_forward(), call->run_backward();
  for (const auto member : {&Call::o, &Call::lse, &Call::d_q, &Call::d_k, &Call::d_v}) EXPECT_EQ(a.*member, b.*member);
  b.options.max_seqlen_k = 999;
  expect_words(refusal([&] { b.run_forward(); }), {"options.pattern has seqlen_k 1000", "accepted: 999"});
}

TEST(AttentionWithPattern, WhatDoesNotGoTogetherIsRefused) {
  const AttentionPattern pattern = pattern_of(1, 1);
  const Ints used{120, 20}, table{0, 1};
  const View used_view = test::view(used), table_view = test::view(table, {2, 1});
  expect_refusal(pattern, [&](Call& c) { c.options.seqused_k = &used_view.fields; },
                 {"options.pattern", "options.seqused_k"}, true);
  expect_refusal(pattern, [&](Call& c) {
    c.options.seqused_k = &used_view.fields, c.options.block_table = &table_view.fields;
    c.batch = 2, c.seqlen_k = 128;
    c.k.resize(2 * 128 * 2 * 8), c.v.resize(2 * 128 * 2 * 8);
  }, {"options.pattern", "options."}, true);
  for (const int splits : {2, 7, 64})
    expect_refusal(pattern, [&](Call& c) { c.options.num_splits = splits; },
                   {"options.num_splits is " + std::to_string(splits), "options.pattern"}, true);
}

TEST(AttentionWithPattern, AllBlocksAreDenseAttentionAndNoneIsNothing) {
  for (const bool causal : {false, true}) {
    Call dense, all, full, none;
    dense.options.causal = all.options.causal = none.options.causal = causal;
    full.options.causal = true;  // full blocks do not care
    const AttentionPattern ones = pattern_of(2, 4), twos = pattern_of(1, 2, 2), zeros = pattern_of(2, 1, 0);
    all.options.pattern = &ones;
    full.options.pattern = &twos;
    none.options.pattern = &zeros;
    for (Call* call : {&dense, &all, &full, &none}) call->run_forward(), call->run_backward();
    const auto near = [](const std::vector<float>& a, const std::vector<float>& b) {
      double most = 0;
      for (std::size_t i = 0; i < a.size(); ++i) most = std::max<double>(most, std::fabs(a[i] - b[i]));
      return most;
    };
    for (const auto member : {&Call::o, &Call::lse, &Call::d_q, &Call::d_k, &Call::d_v}) {
      EXPECT_LE(near(dense.*member, all.*member), 1e-5);
      if (!causal) {
        EXPECT_LE(near(dense.*member, full.*member), 1e-5);
      }
    }
    EXPECT_EQ(none.o, std::vector<float>(none.o.size()));
    EXPECT_EQ(none.lse, std::vector<float>(none.lse.size(), -INFINITY));
    for (const auto member : {&Call::d_q, &Call::d_k, &Call::d_v})
      EXPECT_EQ(none.*member, std::vector<float>((none.*member).size()));
  }
}

}  // namespace
}  // namespace triage
