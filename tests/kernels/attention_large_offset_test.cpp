// Attention on tensors whose strides reach past 2^31 elements, in the batch, the sequence and the heads. Takes 17 GB of
// a GPU's memory.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "device/memory.h"
#include "support/attention_rows.h"
#include "support/forced_kernel.h"
#include "support/test_seed.h"
#include "verdict/attention_correctness.h"
#include "verdict/correctness.h"
#include "verdict/random_inputs.h"

namespace triage::testing {
namespace {

using namespace verdict;

constexpr std::int64_t kTwoTo31 = std::int64_t{1} << 31;
constexpr DLDevice kHost{kDLCPU, 0};
constexpr std::int64_t kBatch = 2, kSequence = 70, kHeads = 3;
constexpr int kHeadDim = 64;

// [batch, sequence, heads, head_dim] with one dimension's last element past 2^31, and its compact copy on the host.
struct FarTensor {
  FarTensor(DLDevice device, DType dtype, int far_dimension, std::uint64_t seed)
      : device(device), dtype(dtype), compact(static_cast<std::size_t>(kBatch * kSequence * kHeads * kHeadDim * 2)) {
    strides[far_dimension] = kTwoTo31 / (shape[far_dimension] - 1) / 64 * 64 + 64;
    std::size_t end = kHeadDim;
    for (int i = 0; i < 3; ++i) end += static_cast<std::size_t>((shape[i] - 1) * strides[i]);
    memory = Buffer(device, end * 2, nullptr);
    fill_random(dtype, compact.data(), kBatch * kSequence * kHeads, kHeadDim, kHeadDim, seed, ValueKind::centred);
    copy_rows(true);
  }

  void copy_rows(bool to_device) {
    unsigned char* near = compact.data();
    for (std::int64_t b = 0; b < kBatch; ++b)
      for (std::int64_t i = 0; i < kSequence; ++i)
        for (std::int64_t h = 0; h < kHeads; ++h, near += kHeadDim * 2) {
          void* far = static_cast<char*>(memory.data()) + 2 * (b * strides[0] + i * strides[1] + h * strides[2]);
          copy_bytes(to_device ? far : near, to_device ? device : kHost, to_device ? near : far,
                     to_device ? kHost : device, kHeadDim * 2, nullptr, "test rows");
        }
    synchronize(device, nullptr);
  }

  DLTensor view() {
    DLTensor tensor{};
    tensor.data = memory.data();
    tensor.device = device;
    tensor.ndim = 4;
    tensor.dtype = dlpack_dtype(dtype);
    tensor.shape = shape;
    tensor.strides = strides;
    return tensor;
  }
  AttentionTensor host() { return {compact.data(), kSequence * kHeads * kHeadDim, kHeads * kHeadDim, kHeadDim}; }

  DLDevice device;
  DType dtype;
  std::int64_t shape[4] = {kBatch, kSequence, kHeads, kHeadDim};
  std::int64_t strides[4] = {kSequence * kHeads * kHeadDim, kHeads* kHeadDim, kHeadDim, 1};
  std::vector<unsigned char> compact;
  Buffer memory;
};

class AttentionLargeOffsets : public ::testing::TestWithParam<AttentionKernelRow> {
 protected:
  void SetUp() override {
    const std::string why = obstacle(GetParam());
    if (!why.empty()) GTEST_SKIP() << GetParam().kernel << " cannot run here: " << why;
  }

  void run(int far_dimension) {
    const AttentionKernelRow& row = GetParam();
    const ForcedKernel forced(row.kernel);
    FarTensor q(row.device(), row.dtype, far_dimension, test_seed()),
        k(row.device(), row.dtype, far_dimension, test_seed() + 1),
        v(row.device(), row.dtype, far_dimension, test_seed() + 2), o(row.device(), row.dtype, far_dimension, 3);
    AttentionOptions options;
    options.causal = true;
    const Buffer workspace(row.device(),
                           attention_forward_workspace_bytes(q.view(), k.view(), v.view(), o.view(), nullptr, options),
                           nullptr);
    attention_forward(q.view(), k.view(), v.view(), o.view(), nullptr, options, {workspace.data(), workspace.bytes()});
    synchronize(row.device(), nullptr);
    EXPECT_EQ(last_kernel(), row.kernel);
    o.copy_rows(false);
    AttentionCall call;
    AttentionProblem& p = call.problem;
    p.dtype = row.dtype;
    p.batch = kBatch;
    p.heads = p.kv_heads = kHeads;
    p.seqlen_q = p.seqlen_k = kSequence;
    p.head_dim = p.head_dim_v = kHeadDim;
    p.window_right = 0;
    call.q = q.host();
    call.k = k.host();
    call.v = v.host();
    call.o = o.host();
    call.softmax_scale = 1.0f / std::sqrt(static_cast<float>(kHeadDim));
    const CheckResult check = check_attention_result(call, o.compact.data(), nullptr);
    EXPECT_TRUE(check.ok) << "dimension " << far_dimension << ": " << check.sentence;
  }
};

TEST_P(AttentionLargeOffsets, InEachDimension) {
  for (int dimension = 0; dimension < 3; ++dimension) {
    try {
      run(dimension);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::out_of_memory) throw;
      GTEST_SKIP() << "the GPU has not the 17 GB that this takes: " << error.what();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Gpu, AttentionLargeOffsets, ::testing::ValuesIn(attention_rows(true)), attention_row_name);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AttentionLargeOffsets);

}  // namespace
}  // namespace triage::testing
