// `triage verdict --library` and `--python`: right, wrong, refusing, failing, crashing and hanging kernels, and
// mistakes on the command line.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "program.h"

namespace triage::verdict {
namespace {

namespace fs = std::filesystem;
using test::ProgramResult;
using test::run_program;

const std::string kLibrary = std::string(TRIAGE_BINARY_DIR) + "/tests/libtriage_user_kernels.so";

ProgramResult run_kernel(const std::string& symbol, std::vector<std::string> more) {
  std::vector<std::string> arguments{"verdict", "--library", kLibrary, "--op",    "spmm", "--symbol", symbol,
                                     "--quick", "--device",  "cpu",    "--block", "16",   "--dtype",  "float32"};
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
  const ProgramResult result = run_kernel("hanging_spmm", {"--json", "--only", "grid", "--timeout", "12"});  // a busy machine's own steps finish
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_LT(result.seconds, 60);
  EXPECT_NE(result.out.find("--timeout"), std::string::npos) << result.out;
}

ProgramResult run_attention(const std::string& symbol) {
  return run_program({"verdict", "--library", kLibrary, "--op", "attention.forward", "--symbol", symbol, "--device",
                      "cpu", "--quick", "--only", "grid", "--json"});
}

TEST(UserKernel, AttentionThatIsRightIsFoundRight) {
  const ProgramResult result = run_attention("right_attention");
  ASSERT_EQ(result.exit_code, 0) << result.err << result.out;
  const auto grid = grid_of(result);
  ASSERT_TRUE(grid.is_object()) << result.out;
  EXPECT_EQ(grid.at("op"), "attention.forward");
  EXPECT_EQ(grid.at("kernel"), "user:right_attention");
  EXPECT_GT(grid.at("cases"), 5);
  EXPECT_GT(grid.at("refused"), 5);  // other dtypes, packed sequences, pages
  EXPECT_EQ(grid.at("failed"), 0);
}

TEST(UserKernel, AttentionThatIsWrongIsFoundWrong) {
  const ProgramResult result = run_attention("wrong_attention");
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_GT(grid_of(result).at("failed"), 5);
}

// A Python function gets the same verdict. These hand the problem on to the library's C functions, so that they need
// neither Torch nor NumPy.
class PythonKernel : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              ("python-" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    std::ofstream(folder_ / "mine.py") << R"(import ctypes, os, time
print('a module may print')
library = ctypes.CDLL(os.environ['TEST_LIBRARY'])

def call(name, problem):
    if getattr(library, name)(ctypes.c_void_p(problem.address)) != 0:
        raise NotImplementedError('not this one')

def right(problem): call('right_spmm', problem)
def wrong(problem): call('wrong_spmm', problem)
def attention(problem): call('right_attention', problem)
def raising(problem): raise ValueError('no luck today')
def refusing(problem): raise NotImplementedError('never')
def dying(problem): os._exit(9)
def hanging(problem): time.sleep(1000)
def crashing(problem): ctypes.string_at(0)

def numpy_spmm(problem):
    import numpy
    values, b = problem.values, problem.in0
    if values.dtype.itemsize < 4:
        raise NotImplementedError('numpy has no fp16 products worth the name')
    block, crow, col = problem.block_size, problem.crow_indices, problem.col_indices
    out = numpy.zeros((problem.rows, b.shape[1]), 'float64')
    for r in range(len(crow) - 1):
        for p in range(crow[r], crow[r + 1]):
            height, width = min(block, problem.rows - r * block), min(block, problem.cols - col[p] * block)
            rows = slice(col[p] * block, col[p] * block + width)
            out[r * block:r * block + height] += values[p, :height, :width].astype('float64') @ b[rows].astype('float64')
    kept = problem.beta * problem.out.astype('float64') if problem.beta else 0
    return problem.alpha * out + kept
)";
  }
  void TearDown() override { fs::remove_all(folder_); }

  ProgramResult run(const std::string& function, std::vector<std::string> more = {}, const std::string& op = "spmm") {
    std::vector<std::string> arguments{"verdict", "--python", "mine:" + function, "--op", op,      "--device",
                                       "cpu",     "--quick",  "--only",           "grid", "--json"};
    if (op == "spmm") arguments.insert(arguments.end(), {"--block", "16", "--dtype", "float32"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments, {{"PYTHONPATH", folder_.string()}, {"TEST_LIBRARY", kLibrary}});
  }

  fs::path folder_;
};

TEST_F(PythonKernel, ARightOneIsFoundRight) {
  const ProgramResult result = run("right");
  ASSERT_EQ(result.exit_code, 0) << result.err << result.out;
  EXPECT_EQ(grid_of(result).at("kernel"), "python:mine:right");
  EXPECT_GT(grid_of(result).at("cases"), 10);
  EXPECT_GT(grid_of(result).at("refused"), 10);
}

TEST_F(PythonKernel, AWrongOneIsFoundWrong) {
  const ProgramResult result = run("wrong");
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_GT(grid_of(result).at("failed"), 10);
}

TEST_F(PythonKernel, AttentionToo) {
  const ProgramResult result = run("attention", {}, "attention.forward");
  ASSERT_EQ(result.exit_code, 0) << result.err << result.out;
  EXPECT_GT(grid_of(result).at("cases"), 5);
}

TEST_F(PythonKernel, IsTimed) {
  const ProgramResult result = run("right", {"--only", "timing", "--shape", "cube 1024", "--no-peers"});
  ASSERT_TRUE(result.exit_code == 0 || result.exit_code == 4) << result.err << result.out;
  EXPECT_GT(nlohmann::json::parse(result.out).at("cases").at(0).at("tflops"), 0);
}

TEST_F(PythonKernel, WhatItRaisesIsTheFailure) {
  const ProgramResult result = run("raising");
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_NE(result.out.find("ValueError: no luck today (mine.py:"), std::string::npos) << result.out;
}

TEST_F(PythonKernel, ARefusalIsNoMistake) {
  const ProgramResult result = run("refusing");
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_EQ(grid_of(result).at("failed"), 0);
}

TEST_F(PythonKernel, CrashesAndHangsAreRows) {
  const ProgramResult dead = run("dying");
  EXPECT_EQ(dead.exit_code, 5) << dead.err;
  EXPECT_NE(dead.out.find("it exited with code 9"), std::string::npos) << dead.out;
  EXPECT_NE(run("crashing").out.find("Segmentation fault"), std::string::npos);
  const ProgramResult hung = run("hanging", {"--timeout", "3"});
  EXPECT_EQ(hung.exit_code, 5) << hung.err;
  EXPECT_NE(hung.out.find("--timeout"), std::string::npos) << hung.out;
}

TEST_F(PythonKernel, NumpyViewsAreTheTensors) {
  const char* python = std::getenv("TRIAGE_PYTHON");
  if (std::system((std::string(python ? python : "python3") + " -c 'import numpy' 2>/dev/null").c_str()) != 0) {
    GTEST_SKIP() << "SKIPPED: python3 has no NumPy (TRIAGE_PYTHON names another)";
  }
  const ProgramResult result = run("numpy_spmm");
  ASSERT_EQ(result.exit_code, 0) << result.err << result.out;
  EXPECT_GT(grid_of(result).at("cases"), 10);
}

TEST_F(PythonKernel, WithoutPythonThereIsASentence) {
  const ProgramResult result = run_program({"verdict", "--python", "m:f", "--op", "spmm", "--device", "cpu"},
                                           {{"TRIAGE_PYTHON", "/nowhere/python"}});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.err.find("TRIAGE_PYTHON is '/nowhere/python', which is no program"), std::string::npos)
      << result.err;
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
      {{"--library", TRIAGE_SOURCE_DIR "/README.md", "--symbol", "f", "--op", "spmm", "--device", "cpu"}, "--library cannot be loaded"},
      {{"--library", kLibrary, "--symbol", "right_spmm", "--op", "spmm", "--kernel", "cpu_spmm"}, "--kernel"},
      {{"--library", kLibrary, "--symbol", "right_spmm", "--op", "spmm", "--receipt"}, "refused with --library"},
      {{"--python", "module", "--op", "spmm"}, "--python is 'module'; it takes module:function"},
      {{"--python", "m:f", "--library", kLibrary, "--op", "spmm"}, "--library and --python name two kernels"},
      {{"--python", "m:f", "--op", "spmm,linear"}, "--python needs one --op"},
      {{"--python", "m:f", "--op", "spmm", "--symbol", "f"}, "--symbol is for --library"},
      {{"--python", "no_such_module_anywhere:f", "--op", "spmm", "--device", "cpu"}, "No module named"},
      {{"--python", "math:no_such_function", "--op", "spmm", "--device", "cpu"}, "no_such_function"},
      {{"--python", "math:pi", "--op", "spmm", "--device", "cpu"}, "is no function"},
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
