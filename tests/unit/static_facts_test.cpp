// The tables: instructions, architectures, replacements, occupancy.
#include <gtest/gtest.h>

#include <set>

#include "verdict/static/instruction_facts.h"
#include "verdict/static/occupancy.h"
#include "verdict/static/replacements.h"

namespace {

using namespace triage::static_triage;

std::string id_of(const std::string& statement) {
  const InstructionFact* fact = match_instruction(statement);
  return fact ? fact->id : "";
}

TEST(StaticFacts, EveryRowIsComplete) {
  for (const InstructionFact& fact : instruction_facts()) {
    EXPECT_TRUE(*fact.id && *fact.name && *fact.meaning && *fact.available && *fact.introduced) << fact.id;
    EXPECT_NE(std::string(fact.section).find_first_of("0123456789"), std::string::npos) << fact.id;
    if (*fact.example) {
      EXPECT_EQ(id_of(fact.example), fact.id) << "an earlier row takes its example";
    }
    for (int sm : known_capabilities()) {
      const Target target{sm, 0};
      if (available(fact, target)) continue;
      EXPECT_NE(replacement(fact, target), "code without it") << fact.id << " on " << sm;
    }
    EXPECT_FALSE(exact_guard(fact).empty()) << fact.id;
  }
}

TEST(StaticFacts, WhatExistsWhere) {
  const auto exists = [](const char* id, const char* target) { return available(*find_fact(id), *parse_target(target)); };
  // wgmma is 9.0a alone
  EXPECT_TRUE(exists("wgmma", "90a"));
  for (const char* target : {"80", "89", "90", "100", "100a", "120a"}) EXPECT_FALSE(exists("wgmma", target)) << target;
  EXPECT_TRUE(exists("tcgen05", "100a"));
  EXPECT_TRUE(exists("tcgen05", "103a"));
  EXPECT_TRUE(exists("tcgen05", "100f"));
  for (const char* target : {"90a", "100", "120a", "121a"}) EXPECT_FALSE(exists("tcgen05", target)) << target;
  EXPECT_FALSE(exists("mma_fp8", "86"));
  EXPECT_TRUE(exists("mma_fp8", "89"));
  EXPECT_TRUE(exists("mma_block_scaled", "120a"));
  EXPECT_FALSE(exists("mma_block_scaled", "100a"));
  EXPECT_EQ(unlocking_target(*find_fact("wgmma"), 90), "90a");
  EXPECT_EQ(unlocking_target(*find_fact("wgmma"), 100), "");
}

TEST(StaticFacts, StatementsAreMatched) {
  EXPECT_EQ(id_of("@%p1 wgmma.fence.sync.aligned"), "wgmma");
  EXPECT_EQ(id_of("LABEL: { cp.async.bulk.tensor.2d.shared::cluster.global [a]"), "tma");
  EXPECT_EQ(id_of("cp.async.cg.shared.global [a], [b], 16"), "cp_async");
  EXPECT_EQ(id_of("mov.u32 %r1, %cluster_ctarank"), "cluster");
  EXPECT_EQ(id_of(".reqnctapercluster 2"), "cluster");
  EXPECT_EQ(id_of("mbarrier.arrive.shared.b64 _, [a]"), "mbarrier");
  EXPECT_EQ(id_of("ld.global.v4.f32 {a,b,c,d}, [p]"), "");
  EXPECT_EQ(id_of("add.s32 %r1, %r2, %r3"), "");
  EXPECT_EQ(id_of("wgmmaish.fence"), "");
  EXPECT_EQ(id_of(""), "");
  EXPECT_TRUE(multiplies_matrices("mma.sync.aligned.m16n8k16"));
  EXPECT_FALSE(multiplies_matrices("wgmma.fence.sync.aligned"));
  EXPECT_STREQ(match_name("this_cluster")->id, "cluster");
  EXPECT_STREQ(match_name("__cuda_ptx_mbarrier_try_wait_is_not_supported_before_SM_90__")->id, "mbarrier_tx");
  EXPECT_EQ(match_name("elsewhere"), nullptr);
}

TEST(StaticFacts, TargetsAreParsed) {
  for (const char* text : {"90a", "sm_90a", "compute_90a", "9.0a"}) {
    ASSERT_TRUE(parse_target(text).has_value()) << text;
    EXPECT_EQ(parse_target(text)->name(), "90a");
  }
  EXPECT_EQ(parse_target("12.0")->sm, 120);
  for (const char* text : {"", "a", "9", "sm_", "90b", "hopper", "9.00", "-90", "90 a", "1000", "090", "99999999999"}) {
    EXPECT_FALSE(parse_target(text).has_value()) << text;
  }
}

TEST(StaticFacts, Occupancy) {
  // 128 registers, 256 threads: 2 blocks of 8 warps fill the register file on every architecture.
  EXPECT_EQ(occupancy({80, 0}, 256, 128, 0)->blocks, 2);
  EXPECT_EQ(occupancy({80, 0}, 256, 128, 0)->percent, 25);
  EXPECT_EQ(occupancy({89, 0}, 256, 128, 0)->percent, 33);
  EXPECT_EQ(occupancy({80, 0}, 256, 128, 0)->limit, "registers");
  // 99 KB and the system's one fill 8.9's 100 KB; a block more and none fits.
  EXPECT_EQ(occupancy({89, 0}, 128, 32, 99 * 1024)->blocks, 1);
  EXPECT_EQ(occupancy({89, 0}, 128, 32, 99 * 1024)->limit, "shared memory");
  EXPECT_FALSE(occupancy({89, 0}, 128, 32, 100 * 1024).has_value());
  EXPECT_EQ(occupancy({90, 'a'}, 32, 16, 0)->limit, "blocks");
  EXPECT_EQ(occupancy({89, 0}, 1024, 16, 0)->blocks, 1);
  EXPECT_EQ(occupancy({90, 0}, 1024, 16, 0)->blocks, 2);
  EXPECT_FALSE(occupancy({90, 0}, 1024, 96, 0).has_value());
  EXPECT_FALSE(occupancy({66, 0}, 128, 16, 0).has_value());
  EXPECT_FALSE(occupancy({90, 0}, 0, 16, 0).has_value());
  EXPECT_EQ(block_registers(96, 1024), 98304);
}

}  // namespace
