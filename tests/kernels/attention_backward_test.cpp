// Every registry row of attention's backward on the grid of cases, through the public API: correct by the rule of
// verdict/attention_backward_correctness.h, nothing written outside of the gradients, and the kernel that was named is
// the one that ran. A failure prints one line that makes the problem again; TRIAGE_ATTENTION_CASE=<seed> repeats a random
// one.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <string>

#include "support/attention_repeats.h"
#include "support/attention_rows.h"
#include "support/forced_kernel.h"
#include "support/test_seed.h"
#include "verdict/attention_backward_problem.h"
#include "verdict/attention_cases.h"

namespace triage::testing {
namespace {

using namespace verdict;

class AttentionBackward : public ::testing::TestWithParam<AttentionKernelRow> {
 protected:
  void SetUp() override {
    const std::string why = obstacle(row());
    if (!why.empty()) GTEST_SKIP() << row().kernel << " cannot run here: " << why;
  }

  const AttentionKernelRow& row() const { return GetParam(); }
  std::uint64_t seed() const { return random_bits(test_seed(), 7000 + static_cast<std::uint64_t>(row().dtype)); }

  AttentionBackwardSpec spec(std::int64_t seqlen_q, std::int64_t seqlen_k, int head_dim = 64) const {
    AttentionBackwardSpec spec;
    spec.dtype = row().dtype;
    spec.batch = 2;
    spec.heads = spec.kv_heads = 2;
    spec.seqlen_q = seqlen_q;
    spec.seqlen_k = seqlen_k;
    spec.head_dim = spec.head_dim_v = head_dim;
    spec.seed = seed();
    return spec;
  }

  static std::int64_t rows_of(const AttentionSpec& s) {
    std::int64_t rows = 0;
    for (std::int64_t b = 0; b < s.batch; ++b) rows += s.q_length(b) + s.k_length(b);
    return rows;
  }

  void run_and_check(GuardedAttentionBackward& problem) {
    problem.run();
    const AttentionBackwardSpec& s = problem.spec();
    EXPECT_EQ(last_kernel(), rows_of(s) == 0 ? "" : row().kernel) << s.label();
    const CheckResult check = problem.check(attention_check_options(s));
    EXPECT_TRUE(check.ok) << s.label() << "\n  " << check.sentence;
  }

  // Whether the kernel takes the problem, said aloud if not; what the CPU's does not is a failure.
  bool taken(const AttentionBackwardSpec& s) const {
    try {
      GuardedAttentionBackward problem(s, row().device());
      return true;
    } catch (const Error& error) {
      EXPECT_TRUE(row().gpu && error.code() == ErrorCode::unsupported) << s.label() << "\n  " << error.what();
      std::printf("refused: %s\n", error.what());
      return false;
    }
  }

  // Problems that a GPU kernel says it does not take are counted, not hidden: no more than a share of `refusals` of
  // them. The CPU takes all.
  void try_all(const std::vector<AttentionBackwardSpec>& specs, double refusals) {
    const ForcedKernel forced(row().kernel);
    std::size_t refused = 0;
    std::string last_refusal;
    for (const AttentionBackwardSpec& s : specs) {
      try {
        GuardedAttentionBackward problem(s, row().device());
        run_and_check(problem);
      } catch (const Error& error) {
        ASSERT_EQ(error.code(), ErrorCode::unsupported) << s.label() << "\n  " << error.what();
        ++refused;
        last_refusal = error.what();
      }
      if (HasFailure()) return;  // one case says enough
    }
    if (!row().gpu) refusals = 0;
    EXPECT_LE(static_cast<double>(refused), refusals * static_cast<double>(specs.size())) << last_refusal;
    if (refused > 0)
      std::printf("%s refused %zu of %zu problems, the last: %s\n", row().kernel.c_str(), refused, specs.size(),
                  last_refusal.c_str());
  }
};

TEST_P(AttentionBackward, EdgeCases) {
  try_all(attention_backward_edge_cases(row().dtype, seed(), row().gpu), 0.6);
}

TEST_P(AttentionBackward, RandomCases) {
  if (const char* replay = std::getenv("TRIAGE_ATTENTION_CASE")) {
    try_all(attention_backward_random_cases(row().dtype, 1, std::strtoull(replay, nullptr, 10)), 1);
    return;
  }
  const int cases = row().gpu ? 400 : 60;
  const std::uint64_t base = seed() >> 16;
  for (int i = 0; i < cases; ++i) {
    const std::uint64_t own = base + static_cast<std::uint64_t>(i);
    try_all(attention_backward_random_cases(row().dtype, 1, own), 1);
    if (HasFailure()) {
      ADD_FAILURE() << "TRIAGE_ATTENTION_CASE=" << own << " repeats it";
      return;
    }
  }
}

// One key a query: P = 1, so d_v is d_o and d_q, d_k are 0 within rounding; integers make d_v exact.
TEST_P(AttentionBackward, OneKeyGivesItsValueTheGradient) {
  const ForcedKernel forced(row().kernel);
  AttentionBackwardSpec s = spec(50, 50);
  s.window_left = s.window_right = 0;
  s.values = ValueKind::integers;
  s.zero_queries = true;
  GuardedAttentionBackward problem(s, row().device());
  run_and_check(problem);
  for (std::int64_t i = 0; i < 50; ++i)
    for (int c = 0; c < s.head_dim_v; ++c) {
      ASSERT_EQ(problem.d_v_element(1, i, 1, c), problem.d_o_element(1, i, 1, c)) << "row " << i << ", column " << c;
      ASSERT_EQ(problem.d_q_element(1, i, 1, c), 0) << "row " << i << ", column " << c;
    }
}

TEST_P(AttentionBackward, RepeatsAreBitwiseEqual) {
  const ForcedKernel forced(row().kernel);
  for (const bool causal : {false, true}) {
    AttentionBackwardSpec s = spec(row().gpu ? 700 : 300, row().gpu ? 700 : 300, 128);
    s.heads = 8;
    s.causal = causal;
    GuardedAttentionBackward problem(s, row().device());
    run_and_check(problem);
    expect_same_bits(problem, row(), row().gpu ? 1000 : 4);
  }
}

// New values in the same memory leave nothing of the first run.
TEST_P(AttentionBackward, NewValuesForTheSameShape) {
  const ForcedKernel forced(row().kernel);
  AttentionBackwardSpec s = spec(90, 170);
  s.causal = s.sinks = s.d_lse = true;
  GuardedAttentionBackward problem(s, row().device());
  for (int i = 0; i < 3; ++i) {
    run_and_check(problem);
    problem.refill(s.seed + 10 + static_cast<std::uint64_t>(i));
  }
}

// The same blocks give the same bits; other blocks and elements in the same pattern leave nothing of those before.
TEST_P(AttentionBackward, BlockSparseRepeatsAndUpdates) {
  const ForcedKernel forced(row().kernel);
  expect_repeats_and_updates<GuardedAttentionBackward>(
      row(), [&] { return spec(500, 700, 128); }, [&](const auto& s) { return taken(s); },
      [&](GuardedAttentionBackward& problem) { run_and_check(problem); });
}

INSTANTIATE_TEST_SUITE_P(Cpu, AttentionBackward, ::testing::ValuesIn(attention_backward_rows(false)),
                         attention_row_name);
INSTANTIATE_TEST_SUITE_P(Gpu, AttentionBackward, ::testing::ValuesIn(attention_backward_rows(true)),
                         attention_row_name);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AttentionBackward);

// A row that someone adds to the registry is tested without further ado.
TEST(AttentionBackwardCoverage, EveryRegistryRowIsTested) {
  std::map<std::string, std::string> dtypes;
  for (const bool gpu : {false, true})
    for (const AttentionKernelRow& row : attention_backward_rows(gpu)) {
      std::string& words = dtypes[row.kernel];
      words += (words.empty() ? "" : " ") + std::string(dtype_name(row.dtype));
    }
  for (const AttentionBackwardKernel* kernel : attention_backward_kernels())
    EXPECT_EQ(dtypes[kernel->name], kernel->dtypes) << kernel->name;
  EXPECT_EQ(dtypes.size(), attention_backward_kernels().size());
}

}  // namespace
}  // namespace triage::testing
