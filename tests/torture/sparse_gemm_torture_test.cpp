// Long and rough: random problems for as long as TRIAGE_TORTURE_SECONDS says (3 by default), and many host threads at
// once on shared patterns.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "support/kernel_rows.h"
#include "support/test_seed.h"

namespace triage::testing {
namespace {

using namespace verdict;
using Clock = std::chrono::steady_clock;

double torture_seconds() {
  const char* variable = std::getenv("TRIAGE_TORTURE_SECONDS");
  return variable != nullptr ? std::atof(variable) : 3;
}

// Random problems of one device, any operation, block and dtype it takes, with the kernel that the library selects.
void random_problems(bool gpu) {
  const std::vector<KernelRow> rows = kernel_rows(gpu);
  const Clock::time_point end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(torture_seconds()));
  Random random(test_seed());
  int problems = 0;
  for (std::uint64_t seed = test_seed(); Clock::now() < end; ++seed) {
    const KernelRow& row = rows[static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(rows.size()) - 1))];
    if (!obstacle(row).empty()) continue;
    const std::int64_t size = random.chance(0.1) ? 4000 : 500;
    for (const ProblemSpec& spec : random_cases(row.operation, row.dtype, row.block, 1, seed, size)) {
      Problem problem(spec, row.device());
      problem.run();
      CheckOptions options = check_options(spec);
      options.share = size > 500 ? 0.1 : 1;
      options.seed = seed;
      const CheckResult check = problem.check(options);
      ASSERT_TRUE(check.ok) << spec.label() << "\n  " << check.sentence;
      ++problems;
    }
  }
  std::printf("  %d random problems\n", problems);
  EXPECT_GT(problems, 0);
}

TEST(SparseGemmTorture, RandomProblems) { random_problems(false); }

TEST(SparseGemmTortureGpu, RandomProblems) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  random_problems(true);
}

// Every thread has outputs and a workspace of its own, as the API asks; inputs and patterns may be shared by copies.
TEST(SparseGemmTorture, ManyHostThreads) {
  constexpr int kThreads = 6;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([t, &wrong] {
      const Operation operation = static_cast<Operation>(t % 3);
      for (const ProblemSpec& spec : random_cases(operation, DType::float32, 32, 12, test_seed() + static_cast<std::uint64_t>(t), 300)) {
        Problem problem(spec, {kDLCPU, 0});
        for (int i = 0; i < 3; ++i) {
          problem.reset_output();
          problem.run();
        }
        if (!problem.check(check_options(spec)).ok) ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace triage::testing
