// The rule by which attention is judged (verdict/attention_correctness.h): honest results pass, and each kind of error
// that a kernel may have is found. Results are made by the oracle itself, of the right call or of one with an error
// planted.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "registry/registry.h"
#include "verdict/attention_problem.h"

namespace triage::testing {
namespace {

using namespace verdict;

constexpr std::int64_t kQueries = 40, kKeys = 160;

// What a kernel would have written for one row: changes to the call, and to the row that comes out.
struct Plant {
  std::function<void(AttentionCall&, const AttentionRow&)> call = [](AttentionCall&, const AttentionRow&) {};
  std::function<void(AttentionRowResult&, const AttentionRow&)> row = [](AttentionRowResult&, const AttentionRow&) {};
  bool exact_weights = false;  // fp32 weights instead of rounded ones
};

AttentionSpec base_spec(DType dtype) {
  AttentionSpec spec;
  spec.dtype = dtype;
  spec.batch = 2;
  spec.heads = 4;
  spec.kv_heads = 2;
  spec.seqlen_q = kQueries;
  spec.seqlen_k = kKeys;
  spec.head_dim = spec.head_dim_v = 64;
  spec.seed = 20261122;
  return spec;
}

CheckResult judge(const AttentionSpec& spec, const Plant& plant) {
  const GuardedAttention problem(spec, {kDLCPU, 0});
  const AttentionCall call = problem.host_call();
  const AttentionOracle right(call);
  std::vector<char> o(static_cast<std::size_t>(spec.batch * call.o.batch_stride) * 8);
  std::vector<float> lse(static_cast<std::size_t>(spec.batch * call.lse_batch_stride));
  for (std::int64_t i = 0; i < right.row_count(); ++i) {
    const AttentionRow row = right.row(i);
    AttentionCall planted = call;
    plant.call(planted, row);
    AttentionRowResult result;
    AttentionOracle(planted).compute(row, &result);
    plant.row(result, row);
    for (int c = 0; c < spec.head_dim_v; ++c)
      write_element(spec.dtype, o.data(), right.output_offset(row) + c,
                    plant.exact_weights ? result.exact[c] : result.plain[c]);
    lse[static_cast<std::size_t>(right.lse_offset(row))] = static_cast<float>(result.plain_lse);
  }
  return check_attention_result(call, o.data(), lse.data());
}

class AttentionRule : public ::testing::TestWithParam<DType> {
 protected:
  void accepts(const AttentionSpec& spec, const Plant& plant, const char* what) {
    const CheckResult check = judge(spec, plant);
    EXPECT_TRUE(check.ok) << what << ": " << check.sentence;
    EXPECT_EQ(check.checked, 1);
  }
  void finds(const AttentionSpec& spec, const Plant& plant, const char* what) {
    const CheckResult check = judge(spec, plant);
    EXPECT_FALSE(check.ok) << what << " was not found: " << check.sentence;
    EXPECT_TRUE(check.ok || check.sentence.find("query") != std::string::npos) << check.sentence;
  }
};

TEST_P(AttentionRule, HonestResultsPass) {
  AttentionSpec spec = base_spec(GetParam());
  accepts(spec, {}, "plain");
  Plant exact;
  exact.exact_weights = true;
  accepts(spec, exact, "fp32 weights");
  spec.causal = spec.sinks = true;
  spec.softcap = 20;
  accepts(spec, {}, "causal, sinks, softcap");
  spec.softmax_scale = 300;  // logits of 1e4
  accepts(spec, {}, "large logits");
  accepts(spec, exact, "large logits, fp32 weights");
}

// Weights relative to another maximum than the last one, as tiles that came earlier have them, are rounded elsewhere.
TEST_P(AttentionRule, OtherRoundingsPass) {
  Plant plant;
  plant.row = [](AttentionRowResult& result, const AttentionRow& row) {
    for (int c = 0; c < 64; ++c)
      result.plain[c] = result.exact[c] * (1 + ((row.query + c) % 2 == 0 ? 1 : -1) * 0x1p-25);
  };
  accepts(base_spec(GetParam()), plant, "a relative error of 2^-25");
}

TEST_P(AttentionRule, PlantedErrorsAreFound) {
  AttentionSpec dense = base_spec(GetParam()), causal = dense, window = dense, capped = dense, sinks = dense,
                cache = dense, paged = dense;
  causal.causal = true;
  window.window_left = 40;
  window.window_right = 3;
  capped.softcap = 2;
  sinks.sinks = true;
  cache.keys = KeyStore::cache;
  cache.k_lengths = {100, kKeys};
  paged = cache;
  paged.keys = KeyStore::paged;
  paged.page_size = 32;

  const auto call = [](auto change) {
    Plant plant;
    plant.call = change;
    return plant;
  };
  const auto row = [](auto change) {
    Plant plant;
    plant.row = change;
    return plant;
  };
  // The scale: a few percent, the missing root, log2(e) forgotten.
  finds(dense, call([](AttentionCall& c, const AttentionRow&) { c.softmax_scale *= 1.05f; }), "a scale off by 5%");
  finds(dense, call([](AttentionCall& c, const AttentionRow&) { c.softmax_scale *= 1.4427f; }), "log2(e) twice");
  finds(dense, call([](AttentionCall& c, const AttentionRow&) { c.softmax_scale = 1.0f / 64; }), "1/d for 1/sqrt(d)");
  // Masks off by one, and aligned at the other corner.
  finds(causal, call([](AttentionCall& c, const AttentionRow&) { c.problem.window_right = 1; }), "one key too many");
  finds(causal, call([](AttentionCall& c, const AttentionRow& r) {
          c.problem.window_right = -1;
          c.problem.seqlen_k = r.query + kKeys - kQueries;  // the last key is missing
          c.problem.window_left = -1;
        }),
        "one key too few");
  finds(causal, call([](AttentionCall& c, const AttentionRow&) { c.problem.seqlen_k = kQueries; }),
        "aligned at the top left");
  finds(window, call([](AttentionCall& c, const AttentionRow&) { c.problem.window_left = 41; }), "a window one longer");
  finds(window, call([](AttentionCall& c, const AttentionRow&) { c.problem.window_left = 39; }),
        "a window one shorter");
  finds(window, call([](AttentionCall& c, const AttentionRow&) { c.problem.window_right = 2; }),
        "a right window one shorter");
  // Tiles: the first 64 keys dropped, one query's last key dropped, padding counted as keys.
  finds(dense, call([](AttentionCall& c, const AttentionRow& r) {
          const auto skip = [](AttentionTensor& t, std::int64_t rows, DType d) {
            t.data = static_cast<char*>(t.data) + rows * t.sequence_stride * dtype_bytes(d);
          };
          skip(c.k, 64, c.problem.dtype);
          skip(c.v, 64, c.problem.dtype);
          c.problem.seqlen_k = kKeys - 64;
          c.problem.batch = r.b + 1;
        }),
        "a dropped tile");
  finds(dense,
        call([](AttentionCall& c, const AttentionRow& r) { c.problem.seqlen_k = r.query == 27 ? kKeys - 1 : kKeys; }),
        "a last key dropped in one query");
  // Heads, sequences and pages mixed up.
  finds(dense, call([](AttentionCall& c, const AttentionRow& r) {
          const std::int64_t shift = (r.head % 2 - r.head / 2) * c.k.head_stride * dtype_bytes(c.problem.dtype);
          c.k.data = static_cast<char*>(c.k.data) + shift;
        }),
        "K's head by h % kv_heads");
  finds(dense, call([](AttentionCall& c, const AttentionRow& r) {
          const std::int64_t shift = (r.head % 2 - r.head / 2) * c.v.head_stride * dtype_bytes(c.problem.dtype);
          c.v.data = static_cast<char*>(c.v.data) + shift;
        }),
        "V's head by h % kv_heads");
  finds(dense, call([](AttentionCall& c, const AttentionRow&) { c.v.batch_stride = 0; }),
        "V of the first sequence for all");
  static const std::int32_t used[] = {100, kKeys - 1};
  finds(cache, call([](AttentionCall& c, const AttentionRow& r) {
          if (r.b == 1) c.seqused_k = used;
        }),
        "a cache one key shorter");
  finds(paged, call([](AttentionCall& c, const AttentionRow&) {
          static std::vector<std::int32_t> table;
          table.assign(c.block_table, c.block_table + 2 * c.block_table_stride);
          std::swap(table[1], table[static_cast<std::size_t>(c.block_table_stride) + 1]);
          c.block_table = table.data();
        }),
        "two pages exchanged");
  // Softcap and sinks left out.
  finds(capped, call([](AttentionCall& c, const AttentionRow&) { c.problem.softcap = 0; }), "no softcap");
  finds(sinks, call([](AttentionCall& c, const AttentionRow&) { c.sinks = nullptr; }), "no sinks");
  finds(sinks, call([](AttentionCall& c, const AttentionRow& r) { c.sinks = c.sinks + (r.head == 0) - 0; }),
        "another head's sink");
  // What comes out: normalisation, columns, lse.
  finds(dense, row([](AttentionRowResult& r, const AttentionRow& at) {
          if (at.query % 16 != 15) return;
          for (double& x : r.plain) x *= 1.02;
        }),
        "a sum off by 2% in some rows");
  finds(dense, row([](AttentionRowResult& r, const AttentionRow&) { std::swap(r.plain[8], r.plain[40]); }),
        "columns exchanged");
  finds(dense, row([](AttentionRowResult& r, const AttentionRow& at) {
          if (at.query == kQueries - 1 && at.head == 3) r.plain[63] = 0;
        }),
        "the last element never written");
  finds(dense, row([](AttentionRowResult& r, const AttentionRow&) { r.plain_lse /= std::log(2.0); }), "lse in base 2");
  finds(dense, row([](AttentionRowResult& r, const AttentionRow&) { r.plain_lse += 1e-3; }), "lse off by 0.001");
  finds(dense, row([](AttentionRowResult& r, const AttentionRow& at) {
          if (at.query == 3) r.plain[5] = std::nan("");
        }),
        "a NaN");
}

// The walk over a block-sparse mask gone wrong.
TEST_P(AttentionRule, PlantedErrorsOfMasksAreFound) {
  AttentionSpec spec = base_spec(GetParam());
  spec.seqlen_q = 150;
  spec.causal = true;
  spec.pattern.block_q = spec.pattern.block_k = 64;
  spec.pattern.density = 0.7;
  spec.pattern.full = spec.pattern.elements = 0.4;
  spec.pattern.heads = spec.heads;
  accepts(spec, {}, "a block-sparse mask");

  // @param change of the bits of the rows: which there are, and which of them are full
  using Bits = std::vector<std::uint32_t>;
  const auto bits = [](const std::function<void(Bits& listed, Bits& full)>& change) {
    Plant plant;
    auto kept = std::make_shared<std::pair<Bits, Bits>>();
    plant.call = [change, kept](AttentionCall& c, const AttentionRow&) {
      const auto count = static_cast<std::size_t>(c.problem.heads * c.mask.by_query.rows * c.mask.by_query.row_words);
      auto& [listed, full] = *kept;
      listed.assign(c.mask.by_query.listed, c.mask.by_query.listed + count);
      full.assign(c.mask.by_query.full, c.mask.by_query.full + count);
      change(listed, full);
      c.mask.by_query.listed = listed.data();
      c.mask.by_query.full = full.data();
    };
    return plant;
  };
  const auto call = [](auto change) {
    Plant plant;
    plant.call = [change](AttentionCall& c, const AttentionRow&) { change(c.mask); };
    return plant;
  };
  finds(spec, call([](AttentionMask& m) { m = AttentionMask(); }), "the mask left out");
  finds(spec, call([](AttentionMask& m) { m.heads_per_mask = 4; }), "one head's mask for all");
  finds(spec, call([](AttentionMask& m) { m.element_index = nullptr; }), "masks of elements left out");
  finds(spec, bits([](Bits& listed, Bits&) { listed[4] ^= 1; }), "one block of one head too many, or missing");
  finds(spec, bits([](Bits& listed, Bits&) { std::swap(listed[0], listed[1]); }), "two rows exchanged");
  finds(spec, bits([](Bits&, Bits& full) { full.assign(full.size(), 0); }), "full blocks cut by the causal mask");
  finds(spec, bits([](Bits& listed, Bits& full) { full = listed; }), "all blocks taken for full");
}

// Sensitivity: an error of one row in 16-bit outputs is found from about two roundings on.
TEST_P(AttentionRule, AFewRoundingsAreTheLimit) {
  const double u = unit_roundoff(GetParam());
  for (const double size : {16.0, 64.0}) {
    Plant plant;
    plant.row = [&](AttentionRowResult& r, const AttentionRow& at) {
      double largest = 0;
      for (int c = 0; c < 64; ++c) largest = std::max(largest, std::fabs(r.exact[c]));
      if (at.query == 30) r.plain[17] = r.exact[17] + size * (GetParam() == DType::float32 ? 40 : 1) * u * largest;
    };
    finds(base_spec(GetParam()), plant, "an element off by a few roundings of its row's largest");
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, AttentionRule, ::testing::Values(DType::float16, DType::bfloat16, DType::float32),
                         [](const ::testing::TestParamInfo<DType>& info) {
                           return std::string(dtype_name(info.param));
                         });

// Fully masked rows: exact zeros and -inf, or the sink.
TEST(AttentionRuleEdges, FullyMaskedRows) {
  AttentionSpec spec = base_spec(DType::float16);
  spec.causal = true;
  spec.seqlen_k = 10;  // the first 30 queries attend nothing
  EXPECT_TRUE(judge(spec, {}).ok) << judge(spec, {}).sentence;
  Plant small, no_infinity;
  small.row = [](AttentionRowResult& r, const AttentionRow& at) {
    if (at.query == 5) r.plain[0] = 6e-8;
  };
  EXPECT_FALSE(judge(spec, small).ok);
  no_infinity.row = [](AttentionRowResult& r, const AttentionRow& at) {
    if (at.query == 5) r.plain_lse = -1e30;
  };
  EXPECT_FALSE(judge(spec, no_infinity).ok);
  spec.sinks = true;
  EXPECT_TRUE(judge(spec, {}).ok) << judge(spec, {}).sentence;
  no_infinity.row = [](AttentionRowResult& r, const AttentionRow& at) {
    if (at.query == 5) r.plain_lse = -HUGE_VAL;
  };
  EXPECT_FALSE(judge(spec, no_infinity).ok) << "with a sink, lse is the sink";
}

}  // namespace
}  // namespace triage::testing
