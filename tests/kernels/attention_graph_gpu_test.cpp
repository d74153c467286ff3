// A CUDA graph that holds the choice of blocks, the update of a pattern and attention in both directions: replayed with
// other blocks and other values, it gives the bits of a pattern that was made for them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "registry/registry.h"
#include "support/test_seed.h"
#include "verdict/random_inputs.h"

#if TRIAGE_HAS_CUDA
#include <cuda_runtime_api.h>

#include "device/memory.h"
#include "triage/triage.h"
#include "verdict/operands.h"

namespace triage::testing {
namespace {

using namespace verdict;

constexpr DLDevice kGpu{kDLCUDA, 0};
constexpr std::int64_t kHeads = 4, kKvHeads = 2, kQueries = 500, kKeys = 700, kHeadDim = 64, kBlock = 64;

/// Device memory with a view of it.
struct DeviceTensor {
  std::vector<std::int64_t> shape;
  Buffer memory;
  DLTensor view{};

  DeviceTensor(std::vector<std::int64_t> lengths, DLDataType dtype, Stream stream) : shape(std::move(lengths)) {
    std::int64_t elements = 1;
    for (const std::int64_t length : shape) elements *= length;
    memory = Buffer(kGpu, static_cast<std::size_t>(elements) * (dtype.bits / 8), stream);
    view.data = memory.data();
    view.device = kGpu;
    view.ndim = static_cast<int>(shape.size());
    view.dtype = dtype;
    view.shape = shape.data();
  }
  DeviceTensor(const DeviceTensor&) = delete;
  DeviceTensor& operator=(const DeviceTensor&) = delete;
  void upload(const void* data, Stream stream) const {
    copy_bytes(memory.data(), kGpu, data, {kDLCPU, 0}, memory.bytes(), stream, "upload of a test's tensor");
    synchronize(kGpu, stream);
  }
  std::vector<char> bytes(Stream stream) const {
    std::vector<char> bytes(memory.bytes());
    copy_bytes(bytes.data(), {kDLCPU, 0}, memory.data(), kGpu, bytes.size(), stream, "download of a test's tensor");
    synchronize(kGpu, stream);
    return bytes;
  }
};

/// One call of attention in both directions, bfloat16.
struct Layer {
  static constexpr DLDataType kElement{kDLBfloat, 16, 1}, kFloat{kDLFloat, 32, 1};
  Stream stream;
  DeviceTensor q, k, v, o, lse, d_o, d_q, d_k, d_v;
  Buffer workspace;
  AttentionOptions options;
  AttentionBackwardInputs inputs;
  AttentionBackwardOutputs outputs;

  Layer(const AttentionPattern& pattern, Stream on)
      : stream(on),
        q({1, kQueries, kHeads, kHeadDim}, kElement, on),
        k({1, kKeys, kKvHeads, kHeadDim}, kElement, on),
        v({1, kKeys, kKvHeads, kHeadDim}, kElement, on),
        o({1, kQueries, kHeads, kHeadDim}, kElement, on),
        lse({1, kHeads, kQueries}, kFloat, on),
        d_o({1, kQueries, kHeads, kHeadDim}, kElement, on),
        d_q({1, kQueries, kHeads, kHeadDim}, kElement, on),
        d_k({1, kKeys, kKvHeads, kHeadDim}, kElement, on),
        d_v({1, kKeys, kKvHeads, kHeadDim}, kElement, on) {
    options.pattern = &pattern;
    options.causal = true;
    inputs = {&q.view, &k.view, &v.view, &o.view, &lse.view, &d_o.view, nullptr};
    outputs = {&d_q.view, &d_k.view, &d_v.view, nullptr};
    const std::size_t bytes =
        std::max(attention_forward_workspace_bytes(q.view, k.view, v.view, o.view, &lse.view, options),
                 attention_backward_workspace_bytes(inputs, outputs, options));
    workspace = Buffer(kGpu, std::max<std::size_t>(bytes, 1), on);
  }
  void fill(std::uint64_t seed) const {
    for (const DeviceTensor* tensor : {&q, &k, &v, &d_o}) {
      fill_centred(DType::bfloat16, tensor->memory.data(), tensor->shape[1] * tensor->shape[2], kHeadDim, ++seed, kGpu,
                   stream);
    }
  }
  void run() {
    const Workspace scratch{workspace.data(), workspace.bytes()};
    attention_forward(q.view, k.view, v.view, o.view, &lse.view, options, scratch, stream);
    attention_backward(inputs, outputs, options, GradientOrder::deterministic, scratch, stream);
  }
  std::vector<std::vector<char>> results() const {
    std::vector<std::vector<char>> all;
    for (const DeviceTensor* tensor : {&o, &lse, &d_q, &d_k, &d_v}) all.push_back(tensor->bytes(stream));
    return all;
  }
};

TEST(AttentionGraphGpu, UpdatesOfThePatternAreReplayed) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  const std::vector<std::int64_t> lengths{1, kHeads, (kQueries + kBlock - 1) / kBlock, (kKeys + kBlock - 1) / kBlock};
  const std::size_t blocks = static_cast<std::size_t>(lengths[1] * lengths[2] * lengths[3]);
  Random random(test_seed());
  const auto draw = [&] {
    std::vector<std::uint8_t> mask(blocks);
    for (std::uint8_t& block : mask) block = static_cast<std::uint8_t>(random.integer(0, 2));
    return mask;
  };
  {
    const DeviceTensor mask(lengths, {kDLUInt, 8, 1}, stream);
    mask.upload(draw().data(), stream);
    AttentionPattern pattern = AttentionPattern::from_mask(mask.view, kQueries, kKeys, kBlock, kBlock, stream);
    Layer layer(pattern, stream);
    layer.fill(test_seed());
    layer.run();  // attributes and module loading are not part of what may be captured
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    // In this mode a call that allocates or waits makes the capture fail.
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
    pattern.update_mask(mask.view, stream);
    layer.run();
    ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    for (int replay = 0; replay < 4; ++replay) {
      mask.upload(draw().data(), stream);
      layer.fill(test_seed() + 10 * static_cast<std::uint64_t>(replay));
      ASSERT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
      const std::vector<std::vector<char>> replayed = layer.results();
      const AttentionPattern fresh = AttentionPattern::from_mask(mask.view, kQueries, kKeys, kBlock, kBlock, stream);
      layer.options.pattern = &fresh;
      layer.run();
      EXPECT_EQ(layer.results(), replayed) << "replay " << replay;
      layer.options.pattern = &pattern;
    }
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
  }
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace triage::testing
#endif
