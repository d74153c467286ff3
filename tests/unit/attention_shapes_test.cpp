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

TEST(AttentionShapes, ReceiptsKeepAllOfAShape) {
  for (const Machine machine : {Machine::gpu, Machine::cpu}) {
    for (const AttentionShape& shape : attention_shapes(machine)) {
      verdict::ReceiptShape before;
      before.name = shape.name;
      before.attention = shape;
      const verdict::Json json = to_json(before);
      EXPECT_TRUE(json.at("block").is_null());
      EXPECT_FALSE(json.contains("nnz_blocks"));
      const verdict::ReceiptShape after = verdict::shape_from_json(json);
      ASSERT_TRUE(after.attention.has_value());
      EXPECT_EQ(after.attention->label(), shape.label());
      EXPECT_EQ(after.attention->heads, shape.heads);
      EXPECT_EQ(after.attention->attended_pairs(), shape.attended_pairs());
      EXPECT_EQ(to_json(after), json);
    }
  }
}

}  // namespace
}  // namespace triage::bench
