// The guards themselves: a write anywhere outside of the elements is found, and poison is NaN in every dtype.
#include <gtest/gtest.h>

#include <cmath>

#include "verdict/correctness.h"
#include "verdict/guarded_tensor.h"
#include "verdict/random_inputs.h"

namespace triage::testing {
namespace {

using namespace verdict;

constexpr DLDevice kHost{kDLCPU, 0};

class GuardedTensorTest : public ::testing::TestWithParam<DType> {};

TEST_P(GuardedTensorTest, HoldsNanAtFirst) {
  GuardedTensor tensor("t", kHost, GetParam(), {3, 5}, 9, 2);
  for (std::int64_t i = -kCanaryElements - 2; i < 2 * 9 + 5 + kCanaryElements; ++i)
    EXPECT_TRUE(std::isnan(read_element(GetParam(), tensor.host(), i))) << i;
}

TEST_P(GuardedTensorTest, FindsWritesOutside) {
  GuardedTensor tensor("t", kHost, GetParam(), {3, 5}, 9, 2);
  tensor.upload(nullptr);
  void* data = tensor.view().data;
  const auto damage_after_write = [&](std::int64_t index, bool constant) {
    tensor.upload(nullptr);
    write_element(GetParam(), data, index, 1.0);
    tensor.download(nullptr);
    return tensor.damage(constant);
  };
  EXPECT_EQ(damage_after_write(4, false), "");
  EXPECT_EQ(damage_after_write(4, true), "t: row 0 of an operand was written");
  EXPECT_EQ(damage_after_write(-1, false), "t: something was written before its first element");
  EXPECT_EQ(damage_after_write(-kCanaryElements - 2, false), "t: something was written before its first element");
  EXPECT_EQ(damage_after_write(5, false), "t: something was written into the gap after row 0");
  EXPECT_EQ(damage_after_write(17, false), "t: something was written into the gap after row 1");
  EXPECT_EQ(damage_after_write(23, false), "t: something was written after its last element");
  EXPECT_EQ(damage_after_write(22 + kCanaryElements, false), "t: something was written after its last element");
}

TEST_P(GuardedTensorTest, ConversionsRoundTrip) {
  const DType dtype = GetParam();
  for (const double value : {0.0, -0.0, 1.0, -2.5, 0x1p-14, 0x1p-20, 0x1p-24, 60000.0, 1.0 + ulp(dtype, 1.0)}) {
    double storage = 0;
    write_element(dtype, &storage, 0, value);
    const double back = read_element(dtype, &storage, 0);
    if (dtype == DType::bfloat16 && value == 60000.0) {
      EXPECT_EQ(back, 59904.0);
    } else {
      EXPECT_EQ(back, value);
      EXPECT_EQ(std::signbit(back), std::signbit(value));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, GuardedTensorTest,
                         ::testing::Values(DType::float16, DType::bfloat16, DType::float32, DType::float64));

TEST(GuardedWorkspace, FindsWritesOutside) {
  GuardedWorkspace workspace(kHost, 1000, nullptr);
  auto* bytes = static_cast<unsigned char*>(workspace.view().data);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bytes) % 256, 0u);
  EXPECT_EQ(bytes[0], 0xff);
  bytes[0] = bytes[999] = 1;
  EXPECT_EQ(workspace.damage(nullptr), "");
  bytes[1000] = 1;
  EXPECT_EQ(workspace.damage(nullptr), "workspace: something was written after it");
  workspace.poison(nullptr);
  bytes[-1] = 1;
  EXPECT_EQ(workspace.damage(nullptr), "workspace: something was written before it");
}

}  // namespace
}  // namespace triage::testing
