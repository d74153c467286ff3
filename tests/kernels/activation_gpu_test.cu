// The activations of linear's epilogue on every fp16 number, against double precision.
#pragma nv_diag_suppress 177  // members that GoogleTest's macros declare and nobody refers to
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "device/activation.h"
#include "device/epilogue.h"
#include "triage/triage.h"

namespace triage::testing {
namespace {

__global__ void activate_all(Activation activation, const float* in, float* out, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  float x[1] = {in[i]};
  device::activate(x, activation);
  out[i] = x[0];
}

std::vector<float> activated(Activation activation, const std::vector<float>& x) {
  const int count = static_cast<int>(x.size());
  float *in = nullptr, *out = nullptr;
  EXPECT_EQ(cudaMalloc(&in, x.size() * sizeof(float)), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&out, x.size() * sizeof(float)), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(in, x.data(), x.size() * sizeof(float), cudaMemcpyHostToDevice), cudaSuccess);
  activate_all<<<(count + 255) / 256, 256>>>(activation, in, out, count);
  std::vector<float> y(x.size());
  EXPECT_EQ(cudaMemcpy(y.data(), out, x.size() * sizeof(float), cudaMemcpyDeviceToHost), cudaSuccess);
  cudaFree(in);
  cudaFree(out);
  return y;
}

double exact(Activation activation, double x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return x < 0 ? 0 : x;
    case Activation::gelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case Activation::silu:
      return x / (1 + std::exp(-x));
  }
  return 0;
}

class ActivationGpu : public ::testing::TestWithParam<Activation> {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  }
};

// A quarter of an fp16 rounding, and what 0.5 - Q loses in fp32 where GELU's tail is tiny.
TEST_P(ActivationGpu, EveryHalfIsWithinAQuarterOfARounding) {
  std::vector<float> x;
  for (int bits = 0; bits < 0x10000; ++bits) {
    __half_raw raw;
    raw.x = static_cast<unsigned short>(bits);
    const float value = __half2float(__half(raw));
    if (std::isfinite(value)) x.push_back(value);
  }
  const std::vector<float> y = activated(GetParam(), x);
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double want = exact(GetParam(), x[i]), error = std::fabs(y[i] - want);
    const double bound =
        std::fabs(want) / 8192 + (x[i] < 0 ? 1e-7 * std::min(std::fabs(static_cast<double>(x[i])), 8.0) : 0.0);
    worst = std::max(worst, error / std::max(bound, 1e-300));
    ASSERT_LE(error, bound) << "x = " << x[i] << ": " << y[i] << " instead of " << want;
  }
  std::printf("  largest error: %.2f of what is allowed\n", worst);
}

TEST_P(ActivationGpu, NanAndInfinity) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> y = activated(GetParam(), {inf, -inf, nan, 3e38f, -3e38f});
  EXPECT_EQ(y[0], inf);
  if (GetParam() == Activation::relu) {
    EXPECT_EQ(y[1], 0);
  } else if (GetParam() == Activation::none) {
    EXPECT_EQ(y[1], -inf);
  } else {
    EXPECT_TRUE(std::isnan(y[1])) << "-inf * 0, as in torch";
  }
  EXPECT_TRUE(std::isnan(y[2]));
  EXPECT_EQ(y[3], 3e38f);
  EXPECT_EQ(y[4], GetParam() == Activation::none ? -3e38f : 0.0f);
}

INSTANTIATE_TEST_SUITE_P(All, ActivationGpu,
                         ::testing::Values(Activation::none, Activation::relu, Activation::gelu, Activation::silu));

}  // namespace
}  // namespace triage::testing
