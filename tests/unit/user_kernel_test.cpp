// `triage verdict --library`: right, wrong, refusing, failing, crashing and hanging kernels, and mistakes on the command line.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "program.h"

namespace triage::verdict {
namespace {

using test::ProgramResult;
using test::run_program;

const std::string kLibrary = std::string(TRIAGE_BINARY_DIR) + "/tests/libtriage_user_kernels.so";

ProgramResult run_kernel(const std::string& symbol, std::vector<std::string> more) {
  std::vector<std::string> arguments{"verdict", "--library", kLibrary,  "--op",    "spmm",  "--symbol", symbol,
                                     "--quick", "--device",  "cpu",     "--block", "16",    "--dtype",  "float32"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_program(arguments);
}

nlohmann::json grid_of(const ProgramResult& result) {
  const auto json = nlohmann::json::parse(result.out, nullptr, false);
  if (!json.is_object() || !json.contains("correctness_grids") || json["correctness_grids"].empty()) return nullptr;
  return json["correctness_grids"][0];
}

TEST(UserKernel, ARightOneIsCheckedTimedAndComparedWithPeers) {
  const ProgramResult result = run_kernel("right_spmm", {"--json", "--shape", "cube 1024", "--timeout", "60"});
  ASSERT_TRUE(result.exit_code == 0 || result.exit_code == 4) << result.err;  // 4: the times scatter
  const auto json = nlohmann::json::parse(result.out);
  ASSERT_FALSE(json.at("cases").empty());
  for (const auto& entry : json.at("cases")) {
    EXPECT_EQ(entry.at("kernel"), "user:right_spmm");
    EXPECT_TRUE(entry.at("correct").at("ok"));
    EXPECT_GT(entry.at("tflops"), 0);
  }
}

TEST(UserKernel, ItsGridIsRunAndNothingIsSaidOfTriagesOwn) {
  const ProgramResult result = run_kernel("right_spmm", {"--json", "--only", "grid"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto grid = grid_of(result);
  ASSERT_TRUE(grid.is_object()) << result.out;
  EXPECT_EQ(grid.at("kernel"), "user:right_spmm");
  EXPECT_GT(grid.at("cases"), 10);
  EXPECT_EQ(grid.at("failed"), 0);
  EXPECT_EQ(result.out.find("cpu_spmm"), std::string::npos);
}

TEST(UserKernel, AWrongOneIsFound) {
  const ProgramResult result = run_kernel("wrong_spmm", {"--json", "--only", "grid"});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  const auto grid = grid_of(result);
  ASSERT_TRUE(grid.is_object()) << result.out;
  EXPECT_GT(grid.at("failed"), 10);
}

TEST(UserKernel, ARefusalIsNoMistake) {
  const ProgramResult result = run_kernel("refusing_spmm", {"--json", "--only", "grid"});
  const auto grid = grid_of(result);
  ASSERT_TRUE(grid.is_object()) << result.out << result.err;
  EXPECT_EQ(grid.at("failed"), 0);
  EXPECT_EQ(grid.at("cases"), 0);
  EXPECT_GT(grid.at("refused"), 10);
  EXPECT_EQ(result.exit_code, 3);  // nothing that was asked for could be done
}

TEST(UserKernel, AnErrorCodeIsAFailureThatNamesIt) {
  const ProgramResult result = run_kernel("failing_spmm", {"--json", "--only", "grid"});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_NE(result.out.find("user:failing_spmm returned 77"), std::string::npos) << result.out;
}

TEST(UserKernel, ACrashBecomesARow) {
  const ProgramResult result = run_kernel("crashing_spmm", {"--json", "--only", "grid"});
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_NE(result.out.find("Segmentation fault"), std::string::npos) << result.out;
}

TEST(UserKernel, AHangIsStopped) {
  const ProgramResult result = run_kernel("hanging_spmm", {"--json", "--only", "grid", "--timeout", "3"});
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_LT(result.seconds, 60);
  EXPECT_NE(result.out.find("--timeout"), std::string::npos) << result.out;
}

TEST(UserKernel, MistakesAreSentencesAndCodeTwo) {
  struct Mistake {
    std::vector<std::string> arguments;
    std::string says;
  };
  const Mistake mistakes[] = {
      {{"--symbol", "f"}, "--symbol needs --library"},
      {{"--library", kLibrary, "--op", "spmm"}, "--library needs --symbol"},
      {{"--library", kLibrary, "--symbol", "right_spmm"}, "--library needs one --op"},
      {{"--library", kLibrary, "--symbol", "right_spmm", "--op", "spmm,linear"}, "--library needs one --op"},
      {{"--library", kLibrary, "--symbol", "right_spmm", "--op", "gemm"}, "--op is 'gemm'"},
      {{"--library", "/nowhere/lib.so", "--symbol", "f", "--op", "spmm"}, "'/nowhere/lib.so', which is no file"},
      {{"--library", kLibrary, "--symbol", "absent", "--op", "spmm", "--device", "cpu"}, "--symbol is 'absent'"},
      {{"--library", __FILE__, "--symbol", "f", "--op", "spmm", "--device", "cpu"}, "--library cannot be loaded"},
      {{"--library", kLibrary, "--symbol", "right_spmm", "--op", "spmm", "--kernel", "cpu_spmm"}, "--kernel"},
      {{"--library", kLibrary, "--symbol", "right_spmm", "--op", "spmm", "--receipt"}, "refused with --library"},
  };
  for (const Mistake& mistake : mistakes) {
    std::vector<std::string> arguments{"verdict", "--quick"};
    arguments.insert(arguments.end(), mistake.arguments.begin(), mistake.arguments.end());
    const ProgramResult result = run_program(arguments);
    EXPECT_EQ(result.exit_code, 2) << mistake.says << "\n" << result.err;
    EXPECT_NE(result.err.find(mistake.says), std::string::npos) << result.err;
  }
}

}  // namespace
}  // namespace triage::verdict
