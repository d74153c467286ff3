// The rule of verdict/correctness.h: no false alarm over thousands of correct results formed in other orders, and every
// planted error found.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "registry/registry.h"
#include "support/naive_product.h"
#include "support/test_seed.h"
#include "verdict/correctness_cases.h"

namespace triage::testing {
namespace {

using namespace verdict;

constexpr DType kDtypes[] = {DType::float16, DType::bfloat16, DType::float32, DType::float64};
constexpr Operation kOperations[] = {Operation::spmm, Operation::linear, Operation::sddmm};

// A result laid out as the output of `call`, from sums in the given order.
std::vector<unsigned char> other_result(const SparseGemmCall& call, std::size_t bytes, SumOrder order) {
  std::vector<unsigned char> result(bytes, 0xff);
  const DType dtype = call.problem.dtype;
  const auto write = [&](std::int64_t offset, auto value) { write_element(dtype, result.data(), offset, static_cast<double>(value)); };
  if (dtype == DType::float64) {
    naive_product<double>(call, order, write);
  } else {
    naive_product<float>(call, order, write);
  }
  return result;
}

std::size_t output_size(Problem& problem) {
  const DLTensor view = problem.output().view();
  const std::int64_t elements = view.ndim == 3 ? view.shape[0] * view.shape[1] * view.shape[2] : view.shape[0] * problem.output().stride();
  return static_cast<std::size_t>(elements * dtype_bytes(problem.spec().dtype));
}

TEST(CorrectnessRule, NoFalseAlarmOverTenThousandCases) {
  int cases = 0;
  double worst[4] = {};
  for (const Operation operation : kOperations)
    for (const DType dtype : kDtypes)
      for (const int block : {16, 32}) {
        const std::uint64_t seed = random_bits(test_seed(), static_cast<std::uint64_t>(cases));
        for (const ProblemSpec& spec : random_cases(operation, dtype, block, 420, seed, 70)) {
          Problem problem(spec, {kDLCPU, 0});
          const SumOrder order = static_cast<SumOrder>(cases % 4);
          const SparseGemmCall call = problem.host_call();
          const CheckResult check = check_result(call, other_result(call, output_size(problem), order).data(), check_options(spec));
          ASSERT_TRUE(check.ok) << spec.label() << " order " << static_cast<int>(order) << "\n  " << check.sentence;
          double& ratio = worst[static_cast<int>(dtype)];
          ratio = std::max(ratio, check.worst_block_ratio);
          ++cases;
        }
      }
  EXPECT_GE(cases, 10000);
  for (const DType dtype : kDtypes)
    std::printf("  %s: worst block ratio %.3f of 2\n", dtype_name(dtype), worst[static_cast<int>(dtype)]);
}

// Long sums, where the noise is large and the plain computation of a small tile is sometimes right by luck.
TEST(CorrectnessRule, NoFalseAlarmOnLongSumsInSmallTiles) {
  for (const DType dtype : kDtypes)
    for (const ValueKind kind : {ValueKind::centred, ValueKind::positive, ValueKind::wide})
      for (int i = 0; i < 60; ++i) {
        ProblemSpec spec;
        spec.dtype = dtype;
        spec.block = 16;
        spec.rows = 1 + i % 3;
        spec.cols = 4000;
        spec.dense = 1 + i % 2;
        spec.values = kind;
        spec.seed = random_bits(test_seed(), static_cast<std::uint64_t>(i));
        spec.pattern_name = "full";
        spec.pattern = make_case_pattern("full", 1, 250, 1, 0);
        Problem problem(spec, {kDLCPU, 0});
        const SparseGemmCall call = problem.host_call();
        for (const SumOrder order : {SumOrder::backward, SumOrder::pieces, SumOrder::pairwise}) {
          const CheckResult check = check_result(call, other_result(call, output_size(problem), order).data());
          ASSERT_TRUE(check.ok) << spec.label() << " order " << static_cast<int>(order) << "\n  " << check.sentence;
        }
      }
}

// What can go wrong with a result, and must be found.
class PlantedErrors : public ::testing::TestWithParam<std::tuple<Operation, DType, int>> {
 protected:
  PlantedErrors() {
    const auto [operation, dtype, block] = GetParam();
    spec_.operation = operation;
    spec_.dtype = dtype;
    spec_.block = block;
    spec_.rows = 6 * block;
    spec_.cols = 8 * block;
    spec_.dense = 128;
    spec_.seed = test_seed();
    spec_.pattern_name = "equal_rows";
    spec_.pattern = make_case_pattern("equal_rows", 6, 8, 0.5, spec_.seed);
  }

  std::vector<unsigned char> right(const SparseGemmCall& call) { return other_result(call, size_, SumOrder::pieces); }

  // Judges a result after `damage` was done to it: the first check shows that it was right before.
  void expect_found(const std::function<void(SparseGemmCall&, std::vector<unsigned char>&)>& damage, const char* what) {
    Problem problem(spec_, {kDLCPU, 0});
    size_ = output_size(problem);
    SparseGemmCall call = problem.host_call();
    std::vector<unsigned char> result = right(call);
    const CheckResult before = check_result(call, result.data());
    ASSERT_TRUE(before.ok) << before.sentence;
    damage(call, result);
    const CheckResult check = check_result(problem.host_call(), result.data());
    EXPECT_FALSE(check.ok) << what << " was not found: " << spec_.label() << "\n  " << check.sentence;
    EXPECT_GE(check.row, 0) << what << " was not located: " << check.sentence;
  }

  std::int64_t output_stride() const {
    return spec_.operation == Operation::spmm ? spec_.dense : spec_.operation == Operation::linear ? spec_.rows : spec_.block;
  }

  ProblemSpec spec_;
  std::size_t size_ = 0;
};

// One element among thousands, off by one percent of the largest of its block.
TEST_P(PlantedErrors, OneWrongElement) {
  expect_found(
      [&](SparseGemmCall&, std::vector<unsigned char>& result) {
        const std::int64_t at = 3 * output_stride() + 5;
        double largest = 0;
        for (std::int64_t i = 0; i < 16 * 16; ++i)
          largest = std::max(
              largest, std::fabs(read_element(spec_.dtype, result.data(), i / 16 * output_stride() + i % 16)));
        const double step = spec_.dtype == DType::bfloat16 ? 0.05 : 0.01;  // an ulp of bfloat16 is 0.8 percent
        write_element(spec_.dtype, result.data(), at, read_element(spec_.dtype, result.data(), at) + step * largest);
      },
      "an element off by a percent of the largest");
}

TEST_P(PlantedErrors, StaleNan) {
  expect_found(
      [&](SparseGemmCall&, std::vector<unsigned char>& result) {
        write_element(spec_.dtype, result.data(), 7 * output_stride() + 2, std::numeric_limits<double>::quiet_NaN());
      },
      "an element that nobody wrote");
}

TEST_P(PlantedErrors, InfinityInsteadOfANumber) {
  expect_found(
      [&](SparseGemmCall&, std::vector<unsigned char>& result) {
        write_element(spec_.dtype, result.data(), output_stride(), -std::numeric_limits<double>::infinity());
      },
      "an infinity");
}

TEST_P(PlantedErrors, SwappedBlocks) {
  expect_found(
      [&](SparseGemmCall& call, std::vector<unsigned char>& result) {
        const std::size_t bytes = static_cast<std::size_t>(spec_.block * spec_.block * dtype_bytes(spec_.dtype));
        if (spec_.operation == Operation::sddmm) {
          std::swap_ranges(result.begin(), result.begin() + static_cast<std::ptrdiff_t>(bytes),
                           result.begin() + static_cast<std::ptrdiff_t>(bytes));
          return;
        }
        // Swapped in the operand, as a kernel does that confuses two positions.
        std::vector<unsigned char> swapped(bytes * static_cast<std::size_t>(spec_.pattern.nnz_blocks()));
        std::memcpy(swapped.data(), call.values, swapped.size());
        std::swap_ranges(swapped.begin(), swapped.begin() + static_cast<std::ptrdiff_t>(bytes),
                         swapped.begin() + static_cast<std::ptrdiff_t>(bytes));
        call.values = swapped.data();
        result = right(call);
      },
      "two blocks in each other's place");
}

// The last sixteen products of the last block of every row are missing (sddmm: the last sixteen of every sum).
TEST_P(PlantedErrors, DroppedLastStep) {
  expect_found(
      [&](SparseGemmCall& call, std::vector<unsigned char>& result) {
        if (spec_.operation == Operation::sddmm) {
          call.problem.dense -= 16;
          result = right(call);
          return;
        }
        std::vector<unsigned char> cut(static_cast<std::size_t>(spec_.pattern.nnz_blocks() * spec_.block * spec_.block * dtype_bytes(spec_.dtype)));
        std::memcpy(cut.data(), call.values, cut.size());
        for (std::int64_t i = 0; i < spec_.pattern.block_rows; ++i)
          for (std::int64_t r = 0; r < spec_.block; ++r)
            for (std::int64_t c = spec_.block - 16; c < spec_.block; ++c)
              write_element(spec_.dtype, cut.data(), ((spec_.pattern.crow[i + 1] - 1) * spec_.block + r) * spec_.block + c, 0);
        call.values = cut.data();
        result = right(call);
      },
      "a dropped last step of k");
}

// One product among hundreds is missing in one element.
TEST_P(PlantedErrors, OneDroppedProduct) {
  if (spec_.dtype == DType::bfloat16) GTEST_SKIP() << "one product is less than bfloat16's rounding";
  expect_found(
      [&](SparseGemmCall& call, std::vector<unsigned char>& result) {
        const std::int64_t at = 2 * output_stride() + 9;
        const double value = read_element(spec_.dtype, result.data(), at);
        (void)call;
        write_element(spec_.dtype, result.data(), at, value - 1.0);  // factors have variance 1
      },
      "a dropped product");
}

// Sums kept in the 16-bit type itself instead of in float.
TEST_P(PlantedErrors, SumsInLowPrecision) {
  if (spec_.dtype == DType::float64 || spec_.dtype == DType::float32) GTEST_SKIP() << "for 16-bit types";
  expect_found(
      [&](SparseGemmCall& call, std::vector<unsigned char>& result) {
        // The error of a rounding after every product.
        naive_product<double>(call, SumOrder::forward, [&](std::int64_t offset, double value) {
          double noisy = value;
          Random random(static_cast<std::uint64_t>(offset));
          for (int step = 0; step < spec_.cols / 2; ++step) noisy += (random.uniform() - 0.5) * ulp(spec_.dtype, value);
          write_element(spec_.dtype, result.data(), offset, noisy);
        });
      },
      "sums rounded to 16 bits");
}

using PlantedCase = ::testing::TestParamInfo<std::tuple<Operation, DType, int>>;

std::string planted_name(const PlantedCase& info) {
  std::string name = operation_name(std::get<0>(info.param));
  name = name.substr(name.find('.') + 1);
  return name + "_" + dtype_name(std::get<1>(info.param)) + "_b" + std::to_string(std::get<2>(info.param));
}

INSTANTIATE_TEST_SUITE_P(All, PlantedErrors,
                         ::testing::Combine(::testing::ValuesIn(kOperations), ::testing::ValuesIn(kDtypes),
                                            ::testing::Values(16, 32)),
                         planted_name);

TEST(CorrectnessRule, IntegersMustBeExact) {
  ProblemSpec spec;
  spec.dtype = DType::float16;
  spec.block = 32;
  spec.rows = spec.cols = 128;
  spec.dense = 32;
  spec.values = ValueKind::integers;
  spec.seed = test_seed();
  spec.pattern_name = "full";
  spec.pattern = make_case_pattern("full", 4, 4, 1, 0);
  Problem problem(spec, {kDLCPU, 0});
  const SparseGemmCall call = problem.host_call();
  std::vector<unsigned char> result = other_result(call, output_size(problem), SumOrder::backward);
  EXPECT_TRUE(check_result(call, result.data(), check_options(spec)).ok);
  const double value = read_element(spec.dtype, result.data(), 40);
  write_element(spec.dtype, result.data(), 40, value + ulp(spec.dtype, value));
  EXPECT_TRUE(check_result(call, result.data()).ok) << "an ulp is within the bound for other inputs";
  const CheckResult check = check_result(call, result.data(), check_options(spec));
  EXPECT_FALSE(check.ok);
  EXPECT_EQ(check.row, 1);
  EXPECT_EQ(check.column, 8);
}

TEST(CorrectnessRule, PaddingOfSampledBlocksMustBeZero) {
  ProblemSpec spec;
  spec.operation = Operation::sddmm;
  spec.block = 16;
  spec.rows = 30;
  spec.cols = 29;
  spec.dense = 10;
  spec.pattern_name = "full";
  spec.pattern = make_case_pattern("full", 2, 2, 1, 0);
  Problem problem(spec, {kDLCPU, 0});
  const SparseGemmCall call = problem.host_call();
  std::vector<unsigned char> result = other_result(call, output_size(problem), SumOrder::forward);
  EXPECT_TRUE(check_result(call, result.data()).ok);
  write_element(spec.dtype, result.data(), 2 * 256 + 15 * 16 + 3, std::numeric_limits<double>::quiet_NaN());  // row 31
  const CheckResult check = check_result(call, result.data());
  EXPECT_FALSE(check.ok);
  EXPECT_EQ(check.block, 2);
  EXPECT_EQ(check.row, 15);
  EXPECT_EQ(check.column, 3);
}

TEST(CorrectnessRule, Ulp) {
  EXPECT_EQ(ulp(DType::float16, 1.0), 0x1p-10);
  EXPECT_EQ(ulp(DType::float16, -65504.0), 32.0);
  EXPECT_EQ(ulp(DType::float16, 0.0), 0x1p-24);
  EXPECT_EQ(ulp(DType::bfloat16, 1.999), 0x1p-7);
  EXPECT_EQ(ulp(DType::float32, 0.5), 0x1p-24);
  EXPECT_EQ(ulp(DType::float64, 4.0), 0x1p-50);
}

}  // namespace
}  // namespace triage::testing
