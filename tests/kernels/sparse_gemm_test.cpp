// Every registry row, block size and dtype on the grid of cases, through the public API: correct by the rule of
// verdict/correctness.h, nothing written outside of the output, and the kernel that was named is the one that ran. A
// problem that a row says it does not take must be refused with that sentence, and be computed by another row when none
// is named.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "support/forced_kernel.h"
#include "support/kernel_rows.h"
#include "support/test_seed.h"
#include "verdict/problem.h"

namespace triage::testing {
namespace {

using namespace verdict;

class SparseGemm : public ::testing::TestWithParam<KernelRow> {
 protected:
  void SetUp() override {
    const std::string why = obstacle(row());
    if (!why.empty()) GTEST_SKIP() << row().kernel << " cannot run here: " << why;
  }

  const KernelRow& row() const { return GetParam(); }

  std::uint64_t seed() const {
    return random_bits(test_seed(), static_cast<std::uint64_t>(row().block) * 8 + static_cast<int>(row().dtype));
  }

  // A random problem of the row with the given sizes.
  ProblemSpec spec(std::int64_t rows, std::int64_t cols, std::int64_t dense, const std::string& kind,
                   double density) const {
    ProblemSpec spec;
    spec.operation = row().operation;
    spec.dtype = row().dtype;
    spec.block = row().block;
    spec.rows = rows;
    spec.cols = cols;
    spec.dense = dense;
    spec.stride_multiple = 8;  // ragged sizes in rows of whole 16 bytes: what every row takes
    spec.seed = seed();
    spec.pattern_name = kind;
    spec.pattern = make_case_pattern(kind, (rows + spec.block - 1) / spec.block, (cols + spec.block - 1) / spec.block,
                                     density, spec.seed);
    return spec;
  }

  // Nothing to compute: no kernel runs.
  static bool is_empty(const ProblemSpec& spec) {
    return spec.rows == 0 || spec.dense == 0 || (spec.operation == Operation::sddmm && spec.pattern.nnz_blocks() == 0);
  }

  void run_and_check(Problem& problem) {
    const ForcedKernel forced(row().kernel);
    problem.run();
    const ProblemSpec& spec = problem.spec();
    EXPECT_EQ(last_kernel(), is_empty(spec) ? "" : row().kernel) << spec.label();
    const CheckResult check = problem.check(check_options(spec));
    EXPECT_TRUE(check.ok) << spec.label() << "\n  " << check.sentence;
  }

  // The row's refusal says what its Support says; without it being named, another row computes the problem.
  void expect_refusal(ProblemSpec spec, const Support& support) {
    EXPECT_FALSE(support.reason.empty()) << spec.label();
    {
      const ForcedKernel forced(row().kernel);
      try {
        Problem problem(spec, row().device());  // asks for the workspace
        problem.run();
        ADD_FAILURE() << "ran what it does not take: " << spec.label();
      } catch (const Error& error) {
        const std::string sentence = error.what();
        EXPECT_EQ(error.code(), ErrorCode::unsupported) << sentence;
        EXPECT_NE(sentence.find(row().kernel), std::string::npos) << sentence;
        EXPECT_NE(sentence.find(support.reason), std::string::npos) << sentence;
      }
    }
    spec.values_layout = ValuesLayout::canonical;  // packed values are one kernel's alone
    Problem problem(spec, row().device());
    problem.run();
    const std::string ran = last_kernel();
    EXPECT_FALSE(ran.empty()) << spec.label();
    EXPECT_TRUE(support_of(row(), spec).ok || ran != row().kernel) << spec.label();
    const CheckResult check = problem.check(check_options(spec));
    EXPECT_TRUE(check.ok) << ran << " instead of " << row().kernel << ": " << spec.label() << "\n  " << check.sentence;
  }

  // Runs what the row takes, expects refusals of the rest, and that what it takes are at least `least` problems of
  // these.
  void try_all(const std::vector<ProblemSpec>& specs, std::size_t least) {
    std::size_t taken = 0;
    for (const ProblemSpec& spec : specs) {
      const Support support = support_of(row(), spec);
      if (support.ok || is_empty(spec)) {
        const ForcedKernel forced(row().kernel);
        Problem problem(spec, row().device());
        run_and_check(problem);
        taken += support.ok;
      } else {
        expect_refusal(spec, support);
      }
      if (HasFailure()) return;  // one case says enough
    }
    EXPECT_GE(taken, least) << "of " << specs.size() << " problems";
    RecordProperty("problems", static_cast<int>(specs.size()));
    RecordProperty("taken", static_cast<int>(taken));
  }
};

TEST_P(SparseGemm, EdgeCases) { try_all(edge_cases(row().operation, row().dtype, row().block, seed()), 50); }

TEST_P(SparseGemm, RandomCases) {
  try_all(random_cases(row().operation, row().dtype, row().block, row().gpu ? 100 : 25, seed() + 1),
          row().gpu ? 10 : 15);
}

// The gradient by the dense operand: the same product, of a matrix that is given transposed.
TEST_P(SparseGemm, InputGradient) {
  if (row().operation == Operation::sddmm) GTEST_SKIP() << "sddmm is itself the gradient by the values";
  std::vector<ProblemSpec> specs = edge_cases(row().operation, row().dtype, row().block, seed() + 2);
  for (ProblemSpec& s : random_cases(row().operation, row().dtype, row().block, row().gpu ? 50 : 10, seed() + 3)) {
    specs.push_back(std::move(s));
  }
  std::vector<ProblemSpec> gradients;
  for (std::size_t i = 0; i < specs.size(); i++) {
    ProblemSpec& s = specs[i];
    if (s.values_layout != ValuesLayout::canonical || (!row().gpu && i % 3 != 0)) continue;
    s.input_gradient = true;
    s.bias = false;
    s.activation = Activation::none;
    gradients.push_back(std::move(s));
  }
  try_all(gradients, 15);
}

TEST_P(SparseGemm, FewTokensOrColumns) {
  if (row().operation == Operation::sddmm) GTEST_SKIP() << "sddmm has no dense columns";
  std::vector<ProblemSpec> specs;
  for (std::int64_t dense = 1; dense <= 65; ++dense)
    specs.push_back(spec(4 * row().block + 1, 3 * row().block - 2, dense, "equal_rows", 0.5));
  for (ProblemSpec& s : std::vector<ProblemSpec>(specs)) {
    if (s.dense % 5 != 1) continue;
    s.stride_multiple = 1;
    specs.push_back(s);
  }
  try_all(specs, 45);
}

// Long rows are split among the warps and the CTAs of a kernel for few columns; the last ones have no blocks for all of
// them.
TEST_P(SparseGemm, LongRowsAndFewColumns) {
  if (row().operation == Operation::sddmm) GTEST_SKIP() << "sddmm has no dense columns";
  std::vector<ProblemSpec> specs;
  for (const std::int64_t cols : {2100, 8192})
    for (const std::int64_t dense : {1, 12, 20, 40})
      specs.push_back(spec(2 * row().block - 8, cols, dense, "skewed", 0.6));
  try_all(specs, 6);
}

TEST_P(SparseGemm, PackedValues) {
  if (row().operation == Operation::sddmm) GTEST_SKIP() << "sddmm writes values, it reads none";
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels())
    if (kernel->name == row().kernel && kernel->prepack == nullptr)
      GTEST_SKIP() << row().kernel << " has no packed layout";
  std::vector<ProblemSpec> specs;
  const std::int64_t b = row().block;
  for (const char* kind : {"uniform", "full", "one_long_row", "holes", "empty_ends", "one_block", "power_law"})
    for (const std::int64_t rows : {b, 13 * b - 8, 26 * b}) {
      ProblemSpec packed = spec(rows, 7 * b - 5, 80, kind, 0.4);
      packed.values_layout = ValuesLayout::packed;
      specs.push_back(packed);
    }
  try_all(specs, specs.size() * 2 / 3);  // some patterns may have come out empty
}

// NaN and infinities in any input appear in the output where a plain product would have them, and nowhere else.
TEST_P(SparseGemm, NanAndInfinityPropagate) {
  const ForcedKernel forced(row().kernel);
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  // Large enough to overflow float16's output, small enough that no product of two overflows the accumulator: there
  // +inf and -inf would meet in an order that the sum's double-precision value says nothing about.
  const double large = row().dtype == DType::float16 ? 60000 : row().dtype == DType::float64 ? 1e150 : 1e18;
  const double specials[] = {nan, inf, -inf, large, -large};
  for (int round = 0; round < 8; ++round) {
    ProblemSpec s = spec(5 * row().block - 3, 4 * row().block - 1, 50, "equal_rows", 0.4);
    s.seed += static_cast<std::uint64_t>(round);
    s.extra_stride = round % 2 * 8;
    s.activation = static_cast<Activation>(row().operation == Operation::linear ? round % 4 : 0);
    s.bias = round < 6;
    s.beta = row().operation != Operation::linear && round >= 4 ? 0.5f : 0.0f;
    Problem problem(s, row().device());
    Random random(s.seed);
    const auto plant = [&](GuardedTensor& tensor) {
      const DLTensor view = tensor.view();
      if (view.ndim != 2) return;
      for (int i = 0; i < 2; ++i)
        write_element(s.dtype, tensor.host(),
                      random.integer(0, view.shape[0] - 1) * tensor.stride() + random.integer(0, view.shape[1] - 1),
                      specials[random.integer(0, 4)]);
    };
    plant(problem.in0());
    plant(problem.in1());
    if (s.beta != 0) plant(problem.output());
    if (row().operation != Operation::sddmm && s.pattern.nnz_blocks() > 0)
      write_element(s.dtype, problem.values().host(), 0, specials[round % 5]);
    if (row().operation == Operation::linear)
      write_element(s.dtype, problem.bias().host(), 1, specials[(round + 2) % 5]);
    problem.upload_inputs();
    problem.reset_output();
    run_and_check(problem);
    if (HasFailure()) return;
  }
}

// beta == 0 means that the output is only written: the NaN that it holds before every run must not show. beta != 0
// means that they do, in the elements that hold them.
TEST_P(SparseGemm, BetaZeroIgnoresTheOutput) {
  if (row().operation == Operation::linear) GTEST_SKIP() << "linear has no beta";
  const ForcedKernel forced(row().kernel);
  ProblemSpec s = spec(3 * row().block, 3 * row().block, 72, "equal_rows", 0.6);
  Problem written(s, row().device());
  run_and_check(written);
  s.beta = 1;
  Problem read(s, row().device());
  if (s.pattern.nnz_blocks() == 0) return;
  write_element(s.dtype, read.output().host(), 0, std::numeric_limits<double>::quiet_NaN());
  read.reset_output();
  run_and_check(read);
  EXPECT_TRUE(std::isnan(read_element(s.dtype, read.output().downloaded(), 0)));
}

TEST_P(SparseGemm, RepeatsAreBitwiseEqual) {
  const ForcedKernel forced(row().kernel);
  const std::int64_t b = row().block;
  Problem problem(spec(30 * b, 40 * b, row().operation == Operation::sddmm ? 200 : 136, "one_long_row", 0.2),
                  row().device());
  run_and_check(problem);
  const std::vector<unsigned char> first = problem.output_bytes();
  const int repeats = row().gpu ? 1000 : 20;
  for (int repeat = 1; repeat < repeats; ++repeat) {
    if (repeat % 50 == 1) problem.reset_output();
    problem.run();
    // A copy to the host each time would take longer than the runs: on a GPU most runs are looked at through the next.
    if (row().gpu && repeat % 10 != 0 && repeat + 1 != repeats) continue;
    ASSERT_EQ(problem.output_bytes(), first) << "run " << repeat << " differs: " << problem.spec().label();
  }
}

// New values, the same pattern: nothing of the first run may be left over.
TEST_P(SparseGemm, NewValuesForTheSamePattern) {
  const ForcedKernel forced(row().kernel);
  ProblemSpec s = spec(9 * row().block - 8, 8 * row().block, 72, "power_law", 0.3);
  Problem problem(s, row().device());
  for (int i = 0; i < 3; ++i) {
    run_and_check(problem);
    problem.refill(s.seed + 10 + static_cast<std::uint64_t>(i));
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, SparseGemm, ::testing::ValuesIn(kernel_rows(false)), row_name);
INSTANTIATE_TEST_SUITE_P(Gpu, SparseGemm, ::testing::ValuesIn(kernel_rows(true)), row_name);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(SparseGemm);

// A row that someone adds to the registry is tested without further ado.
TEST(SparseGemmCoverage, EveryRegistryRowIsTested) {
  std::vector<KernelRow> rows = kernel_rows(false);
  for (const KernelRow& row : kernel_rows(true)) rows.push_back(row);
  for (const SparseGemmKernel* kernel : sparse_gemm_kernels()) {
    std::string dtypes;
    int parameters = 0;
    for (const KernelRow& row : rows) {
      if (row.kernel != kernel->name) continue;
      ++parameters;
      EXPECT_EQ(row.operation, kernel->operation);
      EXPECT_EQ(row.gpu, kernel->family != Family::cpu);
      EXPECT_EQ(row.block, kernel->block != 0 ? kernel->block : row.block);
      if (dtypes.find(dtype_name(row.dtype)) == std::string::npos)
        dtypes += std::string(dtypes.empty() ? "" : " ") + dtype_name(row.dtype);
    }
    EXPECT_GT(parameters, 0) << kernel->name << " has no test";
    EXPECT_EQ(dtypes, kernel->dtypes) << kernel->name;
  }
  // And the parameters became tests of this program.
  const auto* unit = ::testing::UnitTest::GetInstance();
  std::size_t tests = 0;
  for (int i = 0; i < unit->total_test_suite_count(); ++i) {
    const std::string name = unit->GetTestSuite(i)->name();
    if (name != "Cpu/SparseGemm" && name != "Gpu/SparseGemm") continue;
    for (int t = 0; t < unit->GetTestSuite(i)->total_test_count(); ++t)
      tests += std::string(unit->GetTestSuite(i)->GetTestInfo(t)->name()).rfind("EdgeCases/", 0) == 0;
  }
  EXPECT_EQ(tests, rows.size());
}

}  // namespace
}  // namespace triage::testing
