// What tests of attention's forward and backward share: repeated runs give the same bits, and other blocks in the same
// pattern leave nothing of those before.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "support/attention_rows.h"
#include "verdict/attention_problem.h"

namespace triage::testing {

/// Runs a problem that has run already until it has done so `runs` times; on a GPU a tenth of the results are compared.
template <typename Problem>
void expect_same_bits(Problem& problem, const AttentionKernelRow& row, int runs) {
  const std::vector<unsigned char> first = problem.output_bytes();
  for (int run = 1; run < runs; ++run) {
    if (run % 50 == 1) problem.reset_output();
    problem.run();
    if (row.gpu && run % 10 != 0) continue;
    ASSERT_EQ(problem.output_bytes(), first) << "run " << run << " differs: " << problem.spec().label();
  }
}

/// @param make a spec of 500 queries and 700 keys, head_dim 128, whose heads and mask are set here
/// @param taken whether the row's kernel takes a spec; @param run_and_check runs a problem and judges it
template <typename Problem, typename Make, typename Taken, typename RunAndCheck>
void expect_repeats_and_updates(const AttentionKernelRow& row, const Make& make, const Taken& taken,
                                const RunAndCheck& run_and_check) {
  for (const auto kind : {bench::PatternKind::scattered, bench::PatternKind::power_law}) {
    auto s = make();
    s.heads = 4;
    s.causal = kind == bench::PatternKind::scattered;
    s.pattern.block_q = s.pattern.block_k = s.causal ? 64 : 128;
    s.pattern.kind = kind;
    s.pattern.density = s.pattern.full = s.pattern.elements = 0.3;
    s.pattern.batch = s.batch;
    s.pattern.heads = s.causal ? s.heads : s.kv_heads;
    if (!taken(s)) continue;
    Problem problem(s, row.device());
    for (int i = 0; i < 3; ++i) {
      run_and_check(problem);
      expect_same_bits(problem, row, row.gpu ? 100 : 3);
      problem.refill(s.seed + 10 + static_cast<std::uint64_t>(i));
    }
  }
}

}  // namespace triage::testing
