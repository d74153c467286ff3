// What only a GPU has: launches captured in a CUDA graph and replayed with new values and new indices, two streams at
// once, launches that neither allocate nor wait.
#include <gtest/gtest.h>

#include "support/forced_kernel.h"
#include "support/kernel_rows.h"
#include "support/test_seed.h"

#if TRIAGE_HAS_CUDA
#include <cuda_runtime_api.h>

namespace triage::testing {
namespace {

using namespace verdict;

void expect_ok(cudaError_t status, const char* what) { ASSERT_EQ(status, cudaSuccess) << what << ": " << cudaGetErrorString(status); }

class OwnStream {
 public:
  OwnStream() { expect_ok(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"); }
  ~OwnStream() { cudaStreamDestroy(stream_); }
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class SparseGemmGpu : public ::testing::TestWithParam<KernelRow> {
 protected:
  void SetUp() override {
    const std::string why = obstacle(GetParam());
    if (!why.empty()) GTEST_SKIP() << GetParam().kernel << " cannot run here: " << why;
  }

  ProblemSpec spec(const std::string& kind, std::uint64_t seed) const {
    const KernelRow& row = GetParam();
    ProblemSpec spec;
    spec.operation = row.operation;
    spec.dtype = row.dtype;
    spec.block = row.block;
    spec.rows = 30 * row.block - 8;
    spec.stride_multiple = 8;
    spec.cols = 21 * row.block;
    spec.dense = 264;
    spec.seed = test_seed() + seed;
    spec.pattern_name = kind;
    spec.pattern = make_case_pattern(kind, 30, 21, 0.25, spec.seed);
    return spec;
  }

  static void check(Problem& problem, cudaStream_t stream, const std::string& when) {
    const CheckResult result = problem.check(check_options(problem.spec()), stream);
    EXPECT_TRUE(result.ok) << when << ": " << problem.spec().label() << "\n  " << result.sentence;
  }

  // An executable graph of one call.
  static cudaGraphExec_t capture(Problem& problem, cudaStream_t stream) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    // In this mode a call that allocates or waits makes the capture fail.
    EXPECT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
    problem.run(stream);
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    cudaGraphDestroy(graph);
    return executable;
  }
};

TEST_P(SparseGemmGpu, GraphReplayReadsNewValues) {
  const ForcedKernel forced(GetParam().kernel);
  OwnStream stream;
  for (const char* kind : {"uniform", "one_long_row"}) {
    ProblemSpec s = spec(kind, 1);
    Problem problem(s, GetParam().device(), stream.get());
    problem.run(stream.get());  // attributes and module loading are not part of what may be captured
    problem.reset_output(stream.get());
    const cudaGraphExec_t graph = capture(problem, stream.get());
    ASSERT_NE(graph, nullptr);
    EXPECT_EQ(last_kernel(), GetParam().kernel);
    for (int replay = 0; replay < 3; ++replay) {
      expect_ok(cudaGraphLaunch(graph, stream.get()), "cudaGraphLaunch");
      check(problem, stream.get(), "replay " + std::to_string(replay));
      problem.refill(s.seed + 7 + static_cast<std::uint64_t>(replay), stream.get());
    }
    cudaGraphExecDestroy(graph);
  }
}

TEST_P(SparseGemmGpu, TwoStreamsAtOnce) {
  const ForcedKernel forced(GetParam().kernel);
  OwnStream first_stream, second_stream;
  Problem first(spec("uniform", 2), GetParam().device(), first_stream.get());
  Problem second(spec("one_long_row", 3), GetParam().device(), second_stream.get());
  for (int i = 0; i < 50; ++i) {
    first.run(first_stream.get());
    second.run(second_stream.get());
  }
  check(first, first_stream.get(), "first stream");
  check(second, second_stream.get(), "second stream");
}

// One pattern on two streams: launches must not share anything that they write.
TEST_P(SparseGemmGpu, OneProblemAfterTheOtherOnChangingStreams) {
  const ForcedKernel forced(GetParam().kernel);
  OwnStream streams[2];
  Problem problem(spec("power_law", 4), GetParam().device(), streams[0].get());
  for (int i = 0; i < 4; ++i) {
    problem.run(streams[i % 2].get());
    check(problem, streams[i % 2].get(), "run " + std::to_string(i));
    problem.reset_output(streams[i % 2].get());
  }
}

INSTANTIATE_TEST_SUITE_P(Gpu, SparseGemmGpu, ::testing::ValuesIn(kernel_rows(true)), row_name);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(SparseGemmGpu);

}  // namespace
}  // namespace triage::testing
#endif
