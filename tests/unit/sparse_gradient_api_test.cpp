// The gradients of linear and spmm: small problems by hand, and what is said of wrong arguments. Random problems of
// every kernel: tests/kernels/sparse_gemm_test.cpp (InputGradient).
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "triage/triage.h"
#include "unit/tensor_view.h"

namespace triage {
namespace {

using test::view;

constexpr int kBlock = 16;
constexpr std::int64_t kOut = 40, kIn = 27, kTokens = 5;  // 3 x 2 blocks, ragged both ways

// Blocks (0, 0), (0, 1), (2, 0): row 1 is empty.
struct Layer {
  std::vector<std::int32_t> crow{0, 2, 2, 3}, col{0, 1, 0};
  std::vector<double> values = std::vector<double>(3 * kBlock * kBlock);
  BlockPattern pattern = BlockPattern::from_bsr(view(crow), view(col), kOut, kIn, kBlock);

  Layer() {
    for (std::size_t i = 0; i < values.size(); i++) values[i] = std::sin(0.1 * static_cast<double>(i));
  }
  auto values_view() const { return view(values, {3, kBlock, kBlock}); }
  double weight(std::int64_t o, std::int64_t i) const {
    for (std::int32_t p = crow[o / kBlock]; p < crow[o / kBlock + 1]; p++) {
      if (col[p] == i / kBlock) return values[(p * kBlock + o % kBlock) * kBlock + i % kBlock];
    }
    return 0;
  }
};

std::vector<double> waves(std::int64_t count, double step) {
  std::vector<double> data(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < data.size(); i++) data[i] = std::cos(step * static_cast<double>(i));
  return data;
}

struct Memory {
  explicit Memory(std::size_t bytes) : storage(bytes + 256) {
    workspace = {storage.data() + (256 - reinterpret_cast<std::uintptr_t>(storage.data()) % 256), bytes};
  }
  std::vector<char> storage;
  Workspace workspace;
};

TEST(SparseGradients, OfLinearAreThoseOfItsSum) {
  const Layer layer;
  const std::vector<double> dy = waves(kTokens * kOut, 0.3), x = waves(kTokens * kIn, 0.7);
  std::vector<double> dx(kTokens * kIn, NAN), dw(layer.values.size(), NAN), dbias(kOut, NAN);
  const auto dy_view = view(dy, {kTokens, kOut}), x_view = view(x, {kTokens, kIn}), dx_view = view(dx, {kTokens, kIn}),
             dw_view = view(dw, {3, kBlock, kBlock});
  Memory for_input(linear_backward_input_workspace_bytes(layer.pattern, layer.values_view(), dy_view, dx_view));
  linear_backward_input(layer.pattern, layer.values_view(), dy_view, dx_view, for_input.workspace);
  Memory for_weight(linear_backward_weight_workspace_bytes(layer.pattern, dy_view, x_view, dw_view));
  linear_backward_weight(layer.pattern, dy_view, x_view, dw_view, 0.0f, for_weight.workspace);
  ASSERT_EQ(linear_backward_bias_workspace_bytes(dy_view, view(dbias)), 0u);
  linear_backward_bias(dy_view, view(dbias));

  for (std::int64_t t = 0; t < kTokens; t++) {
    for (std::int64_t i = 0; i < kIn; i++) {
      double sum = 0;
      for (std::int64_t o = 0; o < kOut; o++) sum += dy[t * kOut + o] * layer.weight(o, i);
      EXPECT_NEAR(dx[t * kIn + i], sum, 1e-12) << t << ", " << i;
    }
  }
  for (std::int64_t o = 0; o < kOut; o++) {
    double sum = 0;
    for (std::int64_t t = 0; t < kTokens; t++) sum += dy[t * kOut + o];
    EXPECT_NEAR(dbias[o], sum, 1e-12) << o;
  }
  for (std::int64_t p = 0; p < 3; p++) {
    const std::int64_t row = p < 2 ? 0 : 2;
    for (std::int64_t r = 0; r < kBlock; r++) {
      for (std::int64_t c = 0; c < kBlock; c++) {
        const std::int64_t o = row * kBlock + r, i = layer.col[p] * kBlock + c;
        double sum = 0;
        for (std::int64_t t = 0; o < kOut && i < kIn && t < kTokens; t++) sum += dy[t * kOut + o] * x[t * kIn + i];
        EXPECT_NEAR(dw[(p * kBlock + r) * kBlock + c], sum, 1e-12) << p << ": " << r << ", " << c;
      }
    }
  }
}

TEST(SparseGradients, OfSpmmScaleAndAccumulate) {
  const Layer layer;
  constexpr std::int64_t kColumns = 7;
  const std::vector<double> dc = waves(kOut * kColumns, 0.2), before = waves(kIn * kColumns, 0.9);
  std::vector<double> db = before;
  const SpmmOptions options{.alpha = 2.0f, .beta = 0.5f};
  const auto dc_view = view(dc, {kOut, kColumns}), db_view = view(db, {kIn, kColumns});
  Memory memory(spmm_backward_b_workspace_bytes(layer.pattern, layer.values_view(), dc_view, db_view, options));
  spmm_backward_b(layer.pattern, layer.values_view(), dc_view, db_view, options, memory.workspace);
  for (std::int64_t i = 0; i < kIn; i++) {
    for (std::int64_t n = 0; n < kColumns; n++) {
      double sum = 0;
      for (std::int64_t o = 0; o < kOut; o++) sum += layer.weight(o, i) * dc[o * kColumns + n];
      EXPECT_NEAR(db[i * kColumns + n], 2 * sum + 0.5 * before[i * kColumns + n], 1e-12) << i << ", " << n;
    }
  }
}

template <typename Call>
std::string sentence(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "was accepted";
  return "";
}

TEST(SparseGradients, SayWhichArgumentIsWrong) {
  const Layer layer;
  const std::vector<double> dy(kTokens * kOut), x(kTokens * kIn), other(kTokens * kOut);
  const auto dy_view = view(dy, {kTokens, kOut}), x_view = view(x, {kTokens, kIn}),
             wrong = view(other, {kTokens, kOut});
  EXPECT_EQ(sentence([&] { linear_backward_input(layer.pattern, layer.values_view(), dy_view, wrong); }),
            "dx has the shape [5, 40], accepted: [5, 27], [T, w.cols] with T of dy");
  EXPECT_EQ(sentence([&] { linear_backward_input(layer.pattern, layer.values_view(), x_view, x_view); }),
            "dy has the shape [5, 27], accepted: [5, 40], [T, w.rows]");
  EXPECT_NE(
      sentence([&] { linear_backward_weight(layer.pattern, x_view, x_view, layer.values_view()); }).find("dy has"),
      std::string::npos);
  EXPECT_EQ(sentence([&] { linear_backward_bias(dy_view, view(x, {kTokens * kIn})); }),
            "dbias has the shape [135], accepted: [40], [out] with out of dy");
  EXPECT_NE(sentence([&] { linear_backward_bias(dy_view, view(dy, {kOut})); }).find("overlaps"), std::string::npos);
  const auto packed = SpmmOptions{.values_layout = ValuesLayout::packed};
  EXPECT_EQ(sentence([&] { spmm_backward_b(layer.pattern, layer.values_view(), dy_view, x_view, packed); }),
            "options.values_layout is 1, accepted here: 0 (canonical)");
}

}  // namespace
}  // namespace triage
