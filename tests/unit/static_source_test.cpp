// The light readers of sources and PTX, and the evaluation of constants.
#include <gtest/gtest.h>

#include <algorithm>

#include "verdict/static/constants.h"
#include "verdict/static/ptx.h"
#include "verdict/static/source.h"

namespace {

using namespace triage::static_triage;

TEST(StaticSource, CommentsAndStringsAreNoCode) {
  const auto file = SourceFile::from_text("a.cu", R"cu(
// __global__ void no(int) { asm("wgmma.fence;"); }
const char* text = "__global__ void neither(int) {";  /* <<<1, 2>>> */
__global__ void __launch_bounds__(256, 2) yes(float* p) {
  int n = 1'000; char c = '"';
  asm volatile("mbarrier.try_wait.b64 p, [%0];\n\t"
               "// a comment\n"
               "@p bra DONE;" :: "r"(n) : "memory");
}
void go(float* p) { yes<<<dim3(1, 2), 256, 3 * 1024>>>(p); }
)cu");
  ASSERT_EQ(file.functions().size(), 2U);
  EXPECT_EQ(file.functions()[0].name, "yes");
  EXPECT_TRUE(file.functions()[0].is_kernel);
  EXPECT_EQ(file.functions()[0].line, 4);
  EXPECT_FALSE(file.functions()[1].is_kernel);
  ASSERT_EQ(file.asm_blocks().size(), 1U);
  ASSERT_EQ(file.asm_blocks()[0].statements.size(), 2U);
  EXPECT_EQ(file.asm_blocks()[0].lines[0], 6);
  ASSERT_EQ(file.launches().size(), 1U);
  EXPECT_EQ(file.launches()[0].arguments, (std::vector<std::string>{"dim3(1, 2)", "256", "3 * 1024"}));
}

TEST(StaticSource, GuardsOfALine) {
  const auto file = SourceFile::from_text("a.cu", "#if A >= \\\n 3\nint x;\n#elif B\nint y;\n#else\nint z;\n#endif\nint w;\n");
  ASSERT_EQ(file.conditionals().size(), 1U);
  EXPECT_TRUE(file.conditionals()[0].has_else);
  EXPECT_TRUE(file.guards_at(9).empty());
  ASSERT_EQ(file.guards_at(7).size(), 1U);
  EXPECT_EQ(file.guards_at(7)[0].condition, "1");
  EXPECT_EQ(file.guards_at(7)[0].earlier.size(), 2U);
}

TEST(StaticSource, BrokenTextIsReadToo) {
  for (const char* text : {"", "{", "}}}", "\"", "'", "/*", "R\"(", "asm(", "asm(\"", "<<<", "k<<<1,", "#", "#if", "#endif", "#else",
                           "#define", "#define X(", "enum {", "constexpr int a =", "__global__ void f(", "\\", "#if \\"}) {
    const auto file = SourceFile::from_text("a.cu", text);
    Constants constants;
    constants.add(file);
    EXPECT_FALSE(constants.evaluate(text, {}).has_value());
  }
  const std::string deep(100000, '(');
  EXPECT_FALSE(Constants().evaluate(deep, {}).has_value());
  EXPECT_FALSE(Constants().evaluate(std::string(100000, '!') + "1", {}).has_value());
}

TEST(StaticSource, SplitsArgumentsOutsideOfBrackets) {
  EXPECT_EQ(split_arguments("f<a, b>(1, 2), {3, 4}, M / T >= 1"), (std::vector<std::string>{"f<a, b>(1, 2)", "{3, 4}", "M / T >= 1"}));
  EXPECT_EQ(split_arguments("a < 3, b"), (std::vector<std::string>{"a < 3", "b"}));
  EXPECT_TRUE(split_arguments("").empty());
}

class StaticConstants : public testing::Test {
 protected:
  StaticConstants() : constants_({"FROM_FLAG=5", "BARE"}) {
    constants_.add(SourceFile::from_text("a.cu", R"cu(
#define THREADS 256
#define CEIL_DIV(a, b) (((a) + (b) - 1) / (b))
constexpr int TILE_M = 64, TILE_N = TILE_M * 2;
constexpr int kRows = TILE_M / THREADS;
enum { A = 3, B, C = B * 2 };
constexpr int round_up(int a, int b) { return (a + b - 1) / b * b; }
#if __CUDA_ARCH__ >= 900
#define STAGES 4
#else
#define STAGES 2
#endif
#define LOOP_A LOOP_B
#define LOOP_B LOOP_A
)cu"));
  }
  std::optional<Evaluated> evaluate(const std::string& text, const char* target = "80") const {
    EvaluationContext context;
    context.target = parse_target(target);
    context.bindings = {{"M", "64"}, {"T", "256"}};
    return constants_.evaluate(text, context);
  }
  Constants constants_;
};

TEST_F(StaticConstants, ShowTheArithmetic) {
  EXPECT_EQ(evaluate("TILE_M / THREADS")->arithmetic, "TILE_M=64 / THREADS=256 = 0");
  EXPECT_EQ(evaluate("kRows")->arithmetic, "kRows = TILE_M=64 / THREADS=256 = 0");
  EXPECT_EQ(evaluate("M / T")->arithmetic, "M=64 / T=256 = 0");
}

TEST_F(StaticConstants, Values) {
  const std::pair<const char*, long long> cases[] = {
      {"TILE_N", 128}, {"C", 8}, {"CEIL_DIV(TILE_M, 48)", 2}, {"round_up(65, 32)", 96}, {"FROM_FLAG + BARE", 6},
      {"(size_t)3 * sizeof(float)", 12}, {"static_cast<int>(7) % 4", 3}, {"1 << 20", 1048576}, {"0x10u | 1", 17},
      {"TILE_M > 10 ? 1 : 2", 1}, {"std::max(TILE_M, 100)", 100}, {"-3 + !0", -2}, {"1'000", 1000}, {"0b101", 5}};
  for (const auto& [text, value] : cases) {
    const auto result = evaluate(text);
    ASSERT_TRUE(result.has_value()) << text;
    EXPECT_EQ(result->value, value) << text;
  }
  EXPECT_EQ(evaluate("STAGES", "80")->value, 2);
  EXPECT_EQ(evaluate("STAGES", "90a")->value, 4);
}

TEST_F(StaticConstants, TheUnknownStaysUnknown) {
  for (const char* text : {"no_such", "1 / 0", "1 % (3 - 3)", "LOOP_A", "sizeof(Mystery)", "1.5f", "f(3)", "1 +", "1 << 70", "a ? b : c"}) {
    EXPECT_FALSE(evaluate(text).has_value()) << text;
  }
}

TEST_F(StaticConstants, ArchitectureTests) {
  const auto holds = [&](const char* text, const char* target) {
    EvaluationContext context;
    context.target = parse_target(target);
    return constants_.condition(text, context);
  };
  EXPECT_EQ(holds("__CUDA_ARCH__ >= 1000", "120a"), true);
  EXPECT_EQ(holds("__CUDA_ARCH__ >= 1000", "90a"), false);
  EXPECT_EQ(holds("defined(__CUDA_ARCH_FEAT_SM90_ALL)", "90a"), true);
  EXPECT_EQ(holds("defined(__CUDA_ARCH_FEAT_SM90_ALL)", "90"), false);
  EXPECT_EQ(holds("defined(__CUDA_ARCH_FAMILY_SPECIFIC__)", "100f"), true);
  EXPECT_EQ(holds("defined(MAYBE_SOMEWHERE)", "90"), std::nullopt);
  EXPECT_EQ(holds("MAYBE && __CUDA_ARCH__ < 800", "90"), false);
}

TEST(StaticPtx, FunctionsStatementsAndPlaces) {
  const std::string text = R"(.version 9.0
.target sm_89
.func callee()
{
	ret;
}
.visible .entry _Z1kPf(
	.param .u64 _Z1kPf_param_0
)
.maxntid 32, 8, 1
{
	.reg .b32 	%r<3>;
	.loc	1 6 3
	.loc	1 3 3, function_name $L__info_string0, inlined_at 1 6 3
	// begin inline asm
	{ .reg .pred p; wgmma.fence.sync.aligned;
 barrier.cluster.arrive; }
	mma.sync {%r1,
		%r2}, {%r3};
$L__BB0_1:
	call.uni callee, ();
	ret;
}
	.file	1 "/x/a b.cu"
)";
  const PtxModule module = parse_ptx(text);
  EXPECT_EQ(module.version, "9.0");
  ASSERT_EQ(module.functions.size(), 2U);
  const PtxFunction& kernel = module.functions[1];
  EXPECT_TRUE(kernel.is_entry);
  EXPECT_EQ(kernel.name, "_Z1kPf");
  EXPECT_EQ(kernel.max_threads(), 256);
  EXPECT_EQ(kernel.work(), 4);
  const auto fence = std::find_if(kernel.body.begin(), kernel.body.end(),
                                  [](const PtxStatement& s) { return s.text.rfind("wgmma", 0) == 0; });
  ASSERT_NE(fence, kernel.body.end());
  EXPECT_EQ(fence->line, 16);
  ASSERT_EQ(fence->locations.size(), 2U);
  EXPECT_EQ(fence->locations[0], (SourceLocation{"/x/a b.cu", 3}));
  EXPECT_EQ(fence->locations[1].line, 6);
  std::vector<std::string> gone;
  const std::string rest = without_functions(text, module, {"callee"}, &gone);
  EXPECT_EQ(gone.size(), 2U);  // its caller goes with it
  EXPECT_EQ(rest.find("wgmma"), std::string::npos);
  EXPECT_EQ(std::count(rest.begin(), rest.end(), '\n'), std::count(text.begin(), text.end(), '\n'));
}

}  // namespace
