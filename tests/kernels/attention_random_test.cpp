// Ten thousand random problems of attention for the GPU kernels (2500 for each kernel and dtype), and a few for the
// CPU. Each problem is made from a seed of its own, printed when it fails: TRIAGE_ATTENTION_CASE=<seed> runs that one
// alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "support/attention_rows.h"
#include "support/forced_kernel.h"
#include "support/test_seed.h"
#include "verdict/attention_cases.h"
#include "verdict/attention_problem.h"

namespace triage::testing {
namespace {

using namespace verdict;

constexpr int kGpuCases = 2500, kCpuCases = 25;
constexpr std::int64_t kMaxLength = 64;  // several tiles would take minutes: Attention.RandomCases has those

enum class Outcome { right, refused, wrong };

class AttentionRandom : public ::testing::TestWithParam<AttentionKernelRow> {
 protected:
  void SetUp() override {
    const std::string why = obstacle(GetParam());
    if (!why.empty()) GTEST_SKIP() << GetParam().kernel << " cannot run here: " << why;
  }

  // Makes, runs and judges the problem of a seed; `sentence` says what was wrong or why it was refused.
  static Outcome run_case(const AttentionKernelRow& row, std::uint64_t seed, std::string& sentence) {
    const AttentionSpec spec = attention_random_cases(row.dtype, 1, seed, kMaxLength).front();
    try {
      GuardedAttention problem(spec, row.device());
      problem.run();
      const CheckResult check = problem.check();
      sentence = spec.label() + "\n  " + check.sentence;
      return check.ok ? Outcome::right : Outcome::wrong;
    } catch (const Error& error) {
      sentence = spec.label() + "\n  " + error.what();
      return row.gpu && error.code() == ErrorCode::unsupported ? Outcome::refused : Outcome::wrong;
    }
  }
};

TEST_P(AttentionRandom, EveryProblemOfASeed) {
  const AttentionKernelRow& row = GetParam();
  const ForcedKernel forced(row.kernel);
  const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
  const std::string filter = std::string(info->test_suite_name()) + "." + info->name();
  const auto tell = [&](std::uint64_t seed, const std::string& sentence) {
    ADD_FAILURE() << sentence << "\n  TRIAGE_ATTENTION_CASE=" << seed
                  << " triage_kernels_tests --gtest_filter=" << filter << " repeats it";
  };
  std::string sentence;
  if (const char* replay = std::getenv("TRIAGE_ATTENTION_CASE")) {
    const std::uint64_t seed = std::strtoull(replay, nullptr, 10);
    const Outcome outcome = run_case(row, seed, sentence);
    std::printf("%s%s\n", outcome == Outcome::refused ? "refused: " : "", sentence.c_str());
    if (outcome == Outcome::wrong) tell(seed, sentence);
    return;
  }
  const int cases = row.gpu ? kGpuCases : kCpuCases;
  const std::uint64_t base = random_bits(test_seed(), 5000 + static_cast<std::uint64_t>(row.dtype)) >> 16;
  std::atomic<int> next{0}, right{0}, refused{0}, wrong{0};
  const auto work = [&] {
    for (int i = next++; i < cases && wrong == 0; i = next++) {
      const std::uint64_t seed = base + static_cast<std::uint64_t>(i);
      std::string said;
      const Outcome outcome = run_case(row, seed, said);
      ++(outcome == Outcome::right ? right : outcome == Outcome::refused ? refused : wrong);
      if (outcome == Outcome::wrong) tell(seed, said);
    }
  };
  // Making and judging a problem takes far longer than running it: several at once keep the GPU and the cores busy.
  const unsigned threads = row.gpu ? std::clamp(std::thread::hardware_concurrency() / 2, 1u, 8u) : 1;
  std::vector<std::thread> others;
  for (unsigned t = 1; t < threads; ++t) others.emplace_back(work);
  work();
  for (std::thread& thread : others) thread.join();
  std::printf("%s: %d problems right, %d that the kernel does not take\n", row.name().c_str(), right.load(),
              refused.load());
  EXPECT_GT(right, cases / 10);
}

INSTANTIATE_TEST_SUITE_P(Cpu, AttentionRandom, ::testing::ValuesIn(attention_rows(false)), attention_row_name);
INSTANTIATE_TEST_SUITE_P(Gpu, AttentionRandom, ::testing::ValuesIn(attention_rows(true)), attention_row_name);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AttentionRandom);

}  // namespace
}  // namespace triage::testing
