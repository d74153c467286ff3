// The CPU backend below the API: every instruction set that runs here, any number of threads, and the conversions.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "cpu/half.h"
#include "cpu/kernels.h"
#include "support/naive_product.h"
#include "support/test_seed.h"
#include "verdict/correctness_cases.h"

namespace triage::testing {
namespace {

using namespace verdict;

constexpr Operation kOperations[] = {Operation::spmm, Operation::linear, Operation::sddmm};
constexpr DType kDtypes[] = {DType::float16, DType::bfloat16, DType::float32, DType::float64};

// The output's elements after a run of one kernel on a copy of the problem's operands.
std::vector<unsigned char> run_kernel(const cpu::KernelSet& set, Problem& problem, int threads) {
  SparseGemmCall call = problem.host_call();
  const bool sampled = call.problem.operation == Operation::sddmm;
  const DLTensor view = problem.output().view();
  const std::int64_t elements = sampled ? view.shape[0] * view.shape[1] * view.shape[2] : view.shape[0] * problem.output().stride();
  std::vector<unsigned char> output(static_cast<std::size_t>(elements * dtype_bytes(call.problem.dtype)));
  std::memcpy(output.data(), problem.output().host(), output.size());
  (sampled ? call.values : call.out.data) = output.data();
  const cpu::CpuKernel& kernel = sampled ? *set.sddmm : *set.spmm;
  const std::size_t bytes = kernel.workspace_bytes(call.problem, threads);
  GuardedWorkspace workspace({kDLCPU, 0}, bytes, nullptr);
  call.workspace = workspace.view();
  kernel.run(call, threads);
  EXPECT_EQ(workspace.damage(nullptr), "") << problem.spec().label();
  return output;
}

ProblemSpec mixed_spec(Operation operation, DType dtype, int block, std::uint64_t seed) {
  ProblemSpec spec;
  spec.operation = operation;
  spec.dtype = dtype;
  spec.block = block;
  spec.rows = 9 * block - 3;
  spec.cols = 11 * block - 2;
  spec.dense = 150;
  spec.bias = true;
  spec.activation = Activation::gelu;
  spec.beta = 0.5f;
  spec.seed = seed;
  spec.pattern_name = "power_law";
  spec.pattern = make_case_pattern("power_law", 9, 11, 0.3, seed);
  return spec;
}

TEST(CpuBackend, EveryInstructionSetIsCorrect) {
  for (const cpu::KernelSet& set : cpu::runnable_kernels()) {
    for (const Operation operation : kOperations)
      for (const DType dtype : kDtypes)
        for (const int block : {16, 64}) {
          std::vector<ProblemSpec> specs = random_cases(operation, dtype, block, 12, test_seed() + static_cast<std::uint64_t>(block), 300);
          for (const std::int64_t dense : {1, 15, 16, 17, 33, 47, 48, 49, 97}) {
            specs.push_back(mixed_spec(operation, dtype, block, test_seed()));
            specs.back().dense = dense;
          }
          for (const ProblemSpec& spec : specs) {
            Problem problem(spec, {kDLCPU, 0});
            const std::vector<unsigned char> output = run_kernel(set, problem, 2);
            const CheckResult check = check_result(problem.host_call(), output.data(), check_options(spec));
            ASSERT_TRUE(check.ok) << set.isa << " " << spec.label() << "\n  " << check.sentence;
          }
        }
  }
}

TEST(CpuBackend, ThreadsDoNotChangeABit) {
  for (const cpu::KernelSet& set : cpu::runnable_kernels())
    for (const Operation operation : kOperations)
      for (const DType dtype : kDtypes) {
        ProblemSpec spec = mixed_spec(operation, dtype, 32, test_seed());
        spec.dense = 700;
        Problem problem(spec, {kDLCPU, 0});
        const std::vector<unsigned char> alone = run_kernel(set, problem, 1);
        for (const int threads : {2, 3, 7, 16}) EXPECT_EQ(run_kernel(set, problem, threads), alone) << set.isa << " " << threads << " threads: " << spec.label();
      }
}

// Each element is one chain of fused multiply-adds in the order of k, whatever the width of a vector.
TEST(CpuBackend, WidthsDoNotChangeABit) {
  const auto& sets = cpu::runnable_kernels();
  if (sets.size() < 3) GTEST_SKIP() << "this machine has no two instruction sets with fused multiply-add";
  for (const Operation operation : kOperations)
    for (const DType dtype : kDtypes) {
      ProblemSpec spec = mixed_spec(operation, dtype, 16, test_seed());
      spec.activation = Activation::relu;
      spec.beta = 0;
      Problem problem(spec, {kDLCPU, 0});
      EXPECT_EQ(run_kernel(sets[0], problem, 2), run_kernel(sets[1], problem, 2)) << spec.label();
    }
}

TEST(CpuBackend, SmallWorkspaceMeansFewerThreads) {
  const cpu::KernelSet& set = cpu::runnable_kernels().front();
  const ProblemSpec spec = mixed_spec(Operation::spmm, DType::float32, 32, test_seed());
  Problem problem(spec, {kDLCPU, 0});
  SparseGemmCall call = problem.host_call();
  const std::size_t one = set.spmm->workspace_bytes(call.problem, 1);
  EXPECT_GT(set.spmm->workspace_bytes(call.problem, 8), one);
  GuardedWorkspace workspace({kDLCPU, 0}, one, nullptr);
  call.workspace = workspace.view();
  std::vector<unsigned char> output(static_cast<std::size_t>(spec.rows * spec.dense * 4));
  std::memcpy(output.data(), problem.output().host(), output.size());
  call.out.data = output.data();
  set.spmm->run(call, 8);
  EXPECT_EQ(workspace.damage(nullptr), "");
  EXPECT_TRUE(check_result(problem.host_call(), output.data()).ok);
}

// The oracle against the shortest possible program, one element at a time in long double.
TEST(Oracle, AgreesWithTheDefinition) {
  for (const Operation operation : kOperations)
    for (const DType dtype : kDtypes)
      for (const ProblemSpec& spec : random_cases(operation, dtype, 16, 20, test_seed() + 5, 90)) {
        Problem problem(spec, {kDLCPU, 0});
        const SparseGemmCall call = problem.host_call();
        std::vector<double> definition, scale;
        const auto set = [&](std::int64_t offset, long double value) {
          if (static_cast<std::size_t>(offset) >= definition.size()) definition.resize(static_cast<std::size_t>(offset) + 1);
          definition[static_cast<std::size_t>(offset)] = static_cast<double>(value);
        };
        naive_product<long double>(call, SumOrder::forward, set);
        const Oracle oracle(call);
        std::vector<double> exact(kOracleRows * kOracleColumns), plain(kOracleRows * kOracleColumns);
        std::int64_t elements = 0;
        for (std::int64_t t = 0; t < oracle.tile_count(); ++t) {
          const OracleTile tile = oracle.tile(t);
          OracleNoise noise;
          oracle.compute(tile, exact.data(), plain.data(), &noise);
          for (int r = 0; r < tile.rows; ++r)
            for (int c = 0; c < tile.columns; ++c, ++elements) {
              const double want = definition.at(static_cast<std::size_t>(tile.output_offset(call, r, c)));
              const double got = exact[static_cast<std::size_t>(r * kOracleColumns + c)];
              ASSERT_NEAR(got, want, 1e-13 * (noise.magnitude + 1) * std::sqrt(noise.terms + 1)) << spec.label();
            }
        }
        if (operation == Operation::sddmm) continue;
        EXPECT_EQ(elements, spec.rows * spec.dense) << spec.label();
      }
}

// All 65536 bit patterns survive the way to float and back.
TEST(HalfConversions, RoundTrip) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const Half half{static_cast<std::uint16_t>(bits)};
    Half half_back;
    narrow(widen(half), &half_back);
    BFloat16 brain{static_cast<std::uint16_t>(bits)}, brain_back;
    narrow(widen(brain), &brain_back);
    if ((bits & 0x7fff) > 0x7c00) {
      EXPECT_TRUE(std::isnan(widen(half)) && std::isnan(widen(half_back))) << bits;
    } else {
      EXPECT_EQ(half_back.bits, bits);
    }
    if ((bits & 0x7fff) > 0x7f80) {
      EXPECT_TRUE(std::isnan(widen(brain)) && std::isnan(widen(brain_back))) << bits;
    } else {
      EXPECT_EQ(brain_back.bits, bits);
    }
  }
}

// Between two neighbouring numbers: the nearer one, and at the middle the one with an even last bit.
TEST(HalfConversions, RoundToNearestEven) {
  for (std::uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const double low = widen(Half{static_cast<std::uint16_t>(bits)}), high = widen(Half{static_cast<std::uint16_t>(bits + 1)});
    const auto rounds_to = [](double value) {
      Half half;
      narrow(static_cast<float>(value), &half);
      return half.bits;
    };
    ASSERT_EQ(rounds_to((low + high) / 2), bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(rounds_to(low + (high - low) * 0.49), bits);
    ASSERT_EQ(rounds_to(low + (high - low) * 0.51), bits + 1);
  }
  Half half;
  narrow(65519.0f, &half);
  EXPECT_EQ(half.bits, 0x7bff);
  narrow(65520.0f, &half);
  EXPECT_EQ(half.bits, 0x7c00);
  narrow(-1e30f, &half);
  EXPECT_EQ(half.bits, 0xfc00);
  BFloat16 brain;
  narrow(__builtin_bit_cast(float, 0x3f808000u), &brain);  // the middle between 0x3f80 and 0x3f81
  EXPECT_EQ(brain.bits, 0x3f80);
  narrow(__builtin_bit_cast(float, 0x3f818000u), &brain);
  EXPECT_EQ(brain.bits, 0x3f82);
  narrow(3.4028235e38f, &brain);
  EXPECT_EQ(brain.bits, 0x7f80);
}

// gelu and silu of the vector code, over the whole range.
TEST(CpuBackend, ActivationsAreAccurate) {
  std::vector<float> inputs;
  for (float x = -120; x < 120; x += 0.0371f) inputs.push_back(x);
  for (const float x : {0.0f, -0.0f, 1e-30f, -1e-30f, 3e38f, -3e38f, 1e-45f}) inputs.push_back(x);
  const std::int64_t count = static_cast<std::int64_t>(inputs.size());
  for (const cpu::KernelSet& set : cpu::runnable_kernels())
    for (const Activation activation : {Activation::gelu, Activation::silu}) {
      // No block at all: the output is the activation of the bias.
      ProblemSpec spec;
      spec.operation = Operation::linear;
      spec.block = 16;
      spec.rows = count;
      spec.cols = 16;
      spec.dense = 2;
      spec.bias = true;
      spec.activation = activation;
      spec.pattern_name = "empty";
      spec.pattern = make_case_pattern("empty", (count + 15) / 16, 1, 0, 0);
      Problem problem(spec, {kDLCPU, 0});
      std::memcpy(problem.bias().host(), inputs.data(), inputs.size() * sizeof(float));
      const std::vector<unsigned char> output = run_kernel(set, problem, 1);
      for (std::int64_t i = 0; i < count; ++i) {
        const double x = inputs[static_cast<std::size_t>(i)], got = read_element(DType::float32, output.data(), i);
        const double want = activation == Activation::gelu ? x * 0.5 * std::erfc(-x / std::sqrt(2.0)) : x / (1 + std::exp(-x));
        ASSERT_NEAR(got, want, 4e-7 * std::fabs(want) + 1e-7 * std::exp(-x * x / 4) + 1e-36) << set.isa << " x = " << x;
      }
    }
}

}  // namespace
}  // namespace triage::testing
