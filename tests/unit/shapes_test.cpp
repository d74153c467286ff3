// The table of shapes and the patterns that it names.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "bench/patterns.h"
#include "bench/shapes.h"

namespace triage::bench {
namespace {

TEST(Shapes, HoldTheCubeAtEveryBlockAndDensity) {
  for (const char* op : {"sparse_gemm.spmm", "sparse_gemm.linear"}) {
    for (int block : {16, 32, 64, 128}) {
      for (double density : {0.22, 0.05}) {
        const auto all = shapes(Machine::gpu);
        EXPECT_TRUE(std::any_of(all.begin(), all.end(), [&](const Shape& s) {
          return s.name == "cube" && s.op == op && s.block == block && s.density == density && s.m == 8192 && s.n == 8192 &&
                 s.k == 8192 && s.dtype == "float16" && s.quick;
        })) << op << block << density;
      }
    }
  }
}

TEST(Shapes, AreAllDifferentAndWellFormed) {
  const auto& kinds = pattern_kinds();
  for (Machine machine : {Machine::gpu, Machine::cpu}) {
    std::set<std::string> seen;
    for (const Shape& s : shapes(machine)) {
      EXPECT_TRUE(seen.insert(s.label() + s.op + s.dtype + s.pattern).second) << s.label() << s.op << s.dtype;
      EXPECT_NE(std::find(kinds.begin(), kinds.end(), s.pattern), kinds.end()) << s.pattern;
      EXPECT_GT(s.m * s.n * s.k, 0);
    }
    EXPECT_TRUE(std::is_sorted(crossover_densities().begin(), crossover_densities().end()));
  }
}

class PatternKind : public testing::TestWithParam<std::string> {};

TEST_P(PatternKind, IsValidRepeatableAndOfItsDensity) {
  for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{128, 128}, {512, 64}, {37, 200}, {1, 1}}) {
    for (double density : {0.0, 0.05, 0.22, 1.0}) {
      const HostPattern pattern = make_pattern(GetParam(), rows, cols, density, 7);
      ASSERT_EQ(pattern.crow.size(), static_cast<std::size_t>(rows) + 1);
      EXPECT_EQ(pattern.crow.front(), 0);
      EXPECT_EQ(pattern.crow.back(), pattern.nnz_blocks());
      for (std::int64_t r = 0; r < rows; ++r) {
        const auto begin = pattern.col.begin() + pattern.crow[r], end = pattern.col.begin() + pattern.crow[r + 1];
        ASSERT_LE(pattern.crow[r], pattern.crow[r + 1]);
        EXPECT_EQ(std::adjacent_find(begin, end, std::greater_equal<>()), end) << "ascending and unique";
        if (begin != end) {
          EXPECT_GE(*begin, 0);
          EXPECT_LT(*(end - 1), cols);
        }
      }
      const HostPattern again = make_pattern(GetParam(), rows, cols, density, 7);
      EXPECT_EQ(pattern.col, again.col);
      if (rows * cols < 1000 || GetParam() == "experts" || (GetParam() == "holes" && density == 1.0)) continue;
      const double real = static_cast<double>(pattern.nnz_blocks()) / static_cast<double>(rows * cols);
      EXPECT_NEAR(real, density, 0.25 * density + 0.01) << GetParam() << " " << rows << "x" << cols;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, PatternKind, testing::ValuesIn(pattern_kinds()), [](const auto& info) { return info.param; });

TEST(Patterns, ExpertsAreBlockDiagonal) {
  const HostPattern pattern = make_pattern("experts", 64, 128, 0.25, 1);
  EXPECT_NEAR(static_cast<double>(pattern.nnz_blocks()), 0.25 * 64 * 128, 1);
  for (int r = 1; r < 64; ++r) EXPECT_LE(pattern.col[pattern.crow[r - 1]], pattern.col[pattern.crow[r]]);
}

TEST(Patterns, SkewedHasFullRowsAmongShortOnes) {
  const HostPattern pattern = make_pattern("skewed", 128, 128, 0.22, 1);
  EXPECT_EQ(pattern.crow[1] - pattern.crow[0], 128);
  EXPECT_LT(pattern.crow[2] - pattern.crow[1], 40);
}

TEST(Patterns, RefuseWhatTheyDoNotKnow) {
  EXPECT_THROW(make_pattern("spiral", 4, 4, 0.5, 1), std::invalid_argument);
  EXPECT_THROW(make_pattern("uniform", 4, 4, 1.5, 1), std::invalid_argument);
}

}  // namespace
}  // namespace triage::bench
