// Every registry row of attention on the grid of cases, through the public API: correct by the rule of
// verdict/attention_correctness.h, nothing written outside of the output, and the kernel that was named is the one that
// ran.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "support/attention_repeats.h"
#include "support/attention_rows.h"
#include "support/forced_kernel.h"
#include "support/test_seed.h"
#include "verdict/attention_cases.h"
#include "verdict/attention_problem.h"

namespace triage::testing {
namespace {

using namespace verdict;

class Attention : public ::testing::TestWithParam<AttentionKernelRow> {
 protected:
  void SetUp() override {
    const std::string why = obstacle(row());
    if (!why.empty()) GTEST_SKIP() << row().kernel << " cannot run here: " << why;
  }

  const AttentionKernelRow& row() const { return GetParam(); }
  std::uint64_t seed() const { return random_bits(test_seed(), 1000 + static_cast<std::uint64_t>(row().dtype)); }

  AttentionSpec spec(std::int64_t seqlen_q, std::int64_t seqlen_k, int head_dim = 64) const {
    AttentionSpec spec;
    spec.dtype = row().dtype;
    spec.batch = 2;
    spec.heads = spec.kv_heads = 2;
    spec.seqlen_q = seqlen_q;
    spec.seqlen_k = seqlen_k;
    spec.head_dim = spec.head_dim_v = head_dim;
    spec.seed = seed();
    return spec;
  }

  // Whether the kernel takes the problem; what the CPU's does not is a failure.
  bool taken(const AttentionSpec& s) const {
    try {
      GuardedAttention problem(s, row().device());
      return true;
    } catch (const Error& error) {
      EXPECT_TRUE(row().gpu && error.code() == ErrorCode::unsupported) << s.label() << "\n  " << error.what();
      return false;
    }
  }

  void run_and_check(GuardedAttention& problem) {
    const ForcedKernel forced(row().kernel);
    problem.run();
    const AttentionSpec& s = problem.spec();
    std::int64_t queries = 0;
    for (std::int64_t b = 0; b < s.batch; ++b) queries += s.q_length(b);
    EXPECT_EQ(last_kernel(), queries == 0 ? "" : row().kernel) << s.label();
    const CheckResult check = problem.check(attention_check_options(s));
    EXPECT_TRUE(check.ok) << s.label() << "\n  " << check.sentence;
  }

  // Problems that a GPU kernel says it does not take (a paged cache, say) are counted, not hidden: no more than a share
  // of `refusals` of them. The CPU takes all.
  void try_all(const std::vector<AttentionSpec>& specs, double refusals) {
    const ForcedKernel forced(row().kernel);
    std::size_t refused = 0;
    std::string last_refusal;
    for (const AttentionSpec& s : specs) {
      try {
        GuardedAttention problem(s, row().device());
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

TEST_P(Attention, EdgeCases) { try_all(attention_edge_cases(row().dtype, seed(), row().gpu), 0.6); }

TEST_P(Attention, RandomCases) { try_all(attention_random_cases(row().dtype, row().gpu ? 400 : 80, seed() + 1), 0.9); }

// Weights that are all equal and integer values: the mean is exact, whatever the order of the sums, if the number of
// keys is a power of two.
TEST_P(Attention, MeansOfIntegersAreExact) {
  const ForcedKernel forced(row().kernel);
  for (const std::int64_t keys : {1, 2, 64, 256}) {
    AttentionSpec s = spec(67, keys);
    s.zero_queries = true;
    s.values = ValueKind::integers;
    GuardedAttention problem(s, row().device());
    run_and_check(problem);
    const AttentionCall call = problem.host_call();
    for (std::int64_t b = 0; b < s.batch; ++b)
      for (std::int64_t h = 0; h < s.heads; ++h)
        for (int c = 0; c < s.head_dim_v; ++c) {
          double sum = 0;
          for (std::int64_t j = 0; j < keys; ++j)
            sum += read_element(s.dtype, call.v.data,
                                b * call.v.batch_stride + j * call.v.sequence_stride + h * call.v.head_stride + c);
          for (const std::int64_t i : {0, 66}) {
            double storage = 0;
            write_element(s.dtype, &storage, 0, sum / static_cast<double>(keys));
            const double got =
                read_element(s.dtype, problem.o().guarded().downloaded(),
                             b * call.o.batch_stride + i * call.o.sequence_stride + h * call.o.head_stride + c);
            ASSERT_EQ(got, read_element(s.dtype, &storage, 0)) << keys << " keys, query " << i << ", column " << c;
          }
        }
  }
}

// One key, or one that outweighs all others: O is its value, to the bit.
TEST_P(Attention, OneKeyGivesItsValue) {
  const ForcedKernel forced(row().kernel);
  AttentionSpec s = spec(50, 50);
  s.window_left = s.window_right = 0;
  GuardedAttention problem(s, row().device());
  run_and_check(problem);
  const AttentionCall call = problem.host_call();
  for (std::int64_t i = 0; i < 50; ++i)
    for (int c = 0; c < s.head_dim_v; ++c)
      ASSERT_EQ(read_element(s.dtype, problem.o().guarded().downloaded(), i * call.o.sequence_stride + c),
                read_element(s.dtype, call.v.data, i * call.v.sequence_stride + c));
}

// NaN and infinities among what a query attends reach its row, and no row that attends none of it.
TEST_P(Attention, NanReachesTheRowsThatAttendIt) {
  const ForcedKernel forced(row().kernel);
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const double special : {nan, inf}) {
    for (int operand = 0; operand < 3; ++operand) {
      AttentionSpec s = spec(80, 200, 128);
      s.batch = 3;
      GuardedAttention problem(s, row().device());
      HeadTensor& tensor = operand == 0 ? problem.q() : operand == 1 ? problem.k() : problem.v();
      const AttentionTensor host = tensor.host_tensor(false);
      write_element(s.dtype, host.data, host.batch_stride + 33 * host.sequence_stride + 5,
                    special);  // sequence 1, head 0
      problem.upload_inputs();
      problem.run();
      problem.check({1.0, 1});  // downloads
      const AttentionCall call = problem.host_call();
      for (std::int64_t b = 0; b < 3; ++b)
        for (std::int64_t h = 0; h < 2; ++h)
          for (std::int64_t i = 0; i < 80; ++i) {
            int bad = 0;
            for (int c = 0; c < 128; ++c)
              bad += !std::isfinite(
                  read_element(s.dtype, problem.o().guarded().downloaded(),
                               b * call.o.batch_stride + i * call.o.sequence_stride + h * call.o.head_stride + c));
            const bool reached = b == 1 && h == 0 && (operand != 0 || i == 33);
            // An infinite logit is NaN only where its sign is plus; a value touches its own column.
            if (!reached) {
              ASSERT_EQ(bad, 0) << "operand " << operand << " sequence " << b << " head " << h << " query " << i;
            } else if (operand == 2) {
              ASSERT_GE(bad, 1) << "query " << i;
            } else if (std::isnan(special)) {
              ASSERT_EQ(bad, 128) << "query " << i;
            }
          }
    }
  }
}

TEST_P(Attention, RepeatsAreBitwiseEqual) {
  const ForcedKernel forced(row().kernel);
  for (const bool decoding : {false, true}) {
    AttentionSpec s = spec(decoding ? 2 : 300, decoding ? 3000 : 300, 128);
    s.heads = 8;
    s.causal = !decoding;
    if (!taken(s)) continue;
    GuardedAttention problem(s, row().device());
    run_and_check(problem);
    expect_same_bits(problem, row(), row().gpu ? 300 : 5);
  }
}

// Any number of splits gives the same answer within the bound, and twice the same bits.
TEST_P(Attention, EverySplitCountRepeats) {
  const ForcedKernel forced(row().kernel);
  int tried = 0;
  for (int splits = 1; splits <= 32; ++splits) {
    AttentionSpec s = spec(1 + splits % 3, 1500, 128);
    s.heads = 8;
    s.num_splits = splits;
    s.sinks = splits % 2 == 0;
    if (!taken(s)) continue;
    GuardedAttention problem(s, row().device());
    run_and_check(problem);
    const std::vector<unsigned char> first = problem.output_bytes();
    problem.reset_output();
    problem.run();
    ASSERT_EQ(problem.output_bytes(), first) << s.label();
    ++tried;
    if (!row().gpu && splits == 2) break;  // they change nothing there
  }
  if (tried < 2) std::printf("%s splits no keys: nothing tried\n", row().kernel.c_str());
}

// New values in the same memory leave nothing of the first run, wherever the keys are.
TEST_P(Attention, NewValuesForTheSameShape) {
  const ForcedKernel forced(row().kernel);
  for (const KeyStore store : {KeyStore::dense, KeyStore::packed, KeyStore::cache, KeyStore::paged}) {
    AttentionSpec s = spec(90, 170);
    s.keys = store;
    s.page_size = 32;
    if (store != KeyStore::dense) s.k_lengths = {170, 91};
    s.causal = true;
    if (!taken(s)) continue;
    GuardedAttention problem(s, row().device());
    for (int i = 0; i < 3; ++i) {
      run_and_check(problem);
      problem.refill(s.seed + 10 + static_cast<std::uint64_t>(i));
    }
  }
}

// The same blocks give the same bits; other blocks and elements in the same pattern leave nothing of those before.
TEST_P(Attention, BlockSparseRepeatsAndUpdates) {
  const ForcedKernel forced(row().kernel);
  expect_repeats_and_updates<GuardedAttention>(
      row(), [&] { return spec(500, 700, 128); }, [&](const auto& s) { return taken(s); },
      [&](GuardedAttention& problem) { run_and_check(problem); });
}

INSTANTIATE_TEST_SUITE_P(Cpu, Attention, ::testing::ValuesIn(attention_rows(false)), attention_row_name);
INSTANTIATE_TEST_SUITE_P(Gpu, Attention, ::testing::ValuesIn(attention_rows(true)), attention_row_name);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Attention);

// A row that someone adds to the registry is tested without further ado.
TEST(AttentionCoverage, EveryRegistryRowIsTested) {
  std::map<std::string, std::string> dtypes;
  for (const bool gpu : {false, true})
    for (const AttentionKernelRow& row : attention_rows(gpu)) {
      std::string& words = dtypes[row.kernel];
      words += (words.empty() ? "" : " ") + std::string(dtype_name(row.dtype));
    }
  for (const AttentionKernel* kernel : attention_kernels())
    EXPECT_EQ(dtypes[kernel->name], kernel->dtypes) << kernel->name;
  EXPECT_EQ(dtypes.size(), attention_kernels().size());
}

}  // namespace
}  // namespace triage::testing
