// The shapes on which attention is timed: what is counted, and their way into receipts and back.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "bench/attention_shapes.h"
#include "verdict/receipt.h"
#include "verdict/work.h"

namespace triage::bench {
namespace {

TEST(AttentionShapes, LabelsTellCasesApart) {
  for (const Machine machine : {Machine::gpu, Machine::cpu}) {
    std::set<std::string> labels;
    for (const AttentionShape& shape : attention_shapes(machine)) {
      EXPECT_TRUE(labels.insert(shape.dtype + " " + shape.label()).second) << shape.label();
      EXPECT_TRUE(labels.insert(shape.dtype + " " + shape.in_any_order().label()).second) << shape.label();
    }
  }
}

TEST(AttentionShapes, AttendedPairs) {
  AttentionShape shape;
  shape.batch = 2;
  shape.heads = shape.kv_heads = 3;
  shape.seqlen_q = 4;
  shape.seqlen_k = 6;
  shape.head_dim = 8;
  shape.head_dim_v = 16;
  EXPECT_EQ(shape.attended_pairs(), 2 * 4 * 6);
  shape.causal = true;
  EXPECT_EQ(shape.attended_pairs(), 2 * (3 + 4 + 5 + 6));
  shape.window_left = 1;
  EXPECT_EQ(shape.attended_pairs(), 2 * 4 * 2);
  shape.window_left = -1;
  shape.seqlen_q = 6;
  EXPECT_EQ(shape.attended_pairs(), 2 * 6 * 6 / 2) << "half of the pairs, as is usual";
  shape.varlen = true;  // lengths of 3 and 6
  EXPECT_EQ(shape.attended_pairs(), (3 * 3 + 6 * 6) / 2.0);
  EXPECT_EQ(shape.total_q(), 9);

  verdict::ReceiptShape receipt;
  receipt.attention = shape;
  EXPECT_EQ(verdict::flops("attention.forward", receipt), 2 * (3 * 3 + 6 * 6) / 2.0 * 3 * (8 + 16));
  EXPECT_EQ(verdict::compulsory_bytes("attention.forward", receipt, "float16"), 2.0 * 2 * 9 * 3 * (8 + 16));
}

TEST(AttentionShapes, OnlyAttendedBlocksAreCounted) {
  for (const PatternKind kind : {PatternKind::uniform, PatternKind::window_and_full_rows, PatternKind::power_law}) {
    AttentionShape shape;
    shape.heads = shape.kv_heads = 2;
    shape.seqlen_q = shape.seqlen_k = 4096;
    shape.block = 64;
    shape.pattern = kind;
    shape.density = 0.25;
    const double all = 4096.0 * 4096.0;
    if (kind == PatternKind::uniform) {
      EXPECT_EQ(shape.attended_pairs(), all / 4);
    }
    EXPECT_NEAR(shape.attended_pairs() / all, 0.25, 0.025) << pattern_kind_name(kind);
  }
  AttentionShape ragged;  // 2 x 2 blocks, all attended
  ragged.heads = ragged.kv_heads = 1;
  ragged.seqlen_q = 65;
  ragged.seqlen_k = 100;
  ragged.block = 64;
  ragged.density = 1;
  EXPECT_EQ(ragged.attended_pairs(), 65 * 100);
}

TEST(AttentionShapes, ReceiptsKeepAllOfAShape) {
  for (const Machine machine : {Machine::gpu, Machine::cpu}) {
    std::vector<AttentionShape> shapes = attention_shapes(machine);
    shapes.push_back(shapes.front().in_any_order());
    for (const AttentionShape& shape : shapes) {
      verdict::ReceiptShape before;
      before.name = shape.name;
      before.attention = shape;
      const verdict::Json json = to_json(before);
      EXPECT_EQ(json.at("block").is_null(), shape.block == 0);
      EXPECT_FALSE(json.contains("nnz_blocks"));
      const verdict::ReceiptShape after = verdict::shape_from_json(json);
      ASSERT_TRUE(after.attention.has_value());
      EXPECT_EQ(after.attention->label(), shape.label());
      EXPECT_EQ(after.attention->heads, shape.heads);
      EXPECT_EQ(after.attention->any_order, shape.any_order);
      EXPECT_EQ(after.attention->attended_pairs(), shape.attended_pairs());
      EXPECT_EQ(to_json(after), json);
    }
  }
}

}  // namespace
}  // namespace triage::bench
