// The triage program from outside: usage, filters, faults in workers, interruption, terminal manners, time limits.
// Everything here runs on the CPU backend.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "program.h"
#include "triage/triage.h"
#include "verdict/receipt.h"

namespace triage::verdict {
namespace {

namespace fs = std::filesystem;
using test::run_on_terminal;
using test::run_program;
using test::Variables;

/// A run of a second: the CPU's spmm at one block size, timings alone.
const std::vector<std::string> kShort{"verdict", "--device", "cpu", "--op", "spmm", "--block", "32", "--quick",
                                      "--only", "timing", "--no-peers", "--shape", "cube 1024"};

std::vector<std::string> shortly(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = kShort;
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST(Program, MistakesAreSentencesAndCodeTwo) {
  struct Mistake {
    std::vector<std::string> arguments;
    std::string says;
  };
  const Mistake mistakes[] = {
      {{}, "subcommand"},
      {{"verdcit"}, "verdcit"},
      {{"verdict", "--blok", "32"}, "--blok"},
      {{"verdict", "--block", "33"}, "--block is 33; accepted: 16, 32, 64, 128"},
      {{"verdict", "--block", "x"}, "--block"},
      {{"verdict", "--op", "gemm"}, "--op is 'gemm'"},
      {{"verdict", "--dtype", "int8"}, "--dtype is 'int8'"},
      {{"verdict", "--kernel", "sm70_spmm"}, "--kernel is 'sm70_spmm'"},
      {{"verdict", "--shape", "no such shape"}, "part of no shape's name"},
      {{"verdict", "--only", "speed"}, "--only is 'speed'"},
      {{"verdict", "--device", "tpu"}, "--device is 'tpu'"},
      {{"verdict", "--device", "cuda:x"}, "--device is 'cuda:x'"},
      {{"verdict", "--timeout", "0"}, "--timeout"},
      {{"verdict", "--json", "--md"}, "standard output"},
      {{"verdict", "--device", "cpu", "--op", "sddmm", "--shape", "llama"}, "no case fits"},
      {{"verdict", "--peer-results", "/nowhere.json"}, "--peer-results is '/nowhere.json': it cannot be read"},
      {{"list", "--device", "gpu"}, "--device is 'gpu'"},
      {{"matrix", "extra"}, "extra"},
  };
  for (const Mistake& mistake : mistakes) {
    const auto result = run_program(mistake.arguments);
    const std::string name = mistake.arguments.empty() ? "(nothing)" : mistake.arguments.back();
    EXPECT_EQ(result.exit_code, 2) << name << "\n" << result.err;
    EXPECT_NE(result.err.find(mistake.says), std::string::npos) << name << "\n" << result.err;
    EXPECT_EQ(result.out, "") << name;
  }
}

TEST(Program, WhatCannotRunHereIsCodeThree) {
  if (cuda_device_count() > 0) GTEST_SKIP() << "there is a GPU here";
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"verdict", "--device", "cuda"}, {"verdict", "--kernel", "sm80_spmm_b32"},
        {"list", "--device", "cuda:0"}}) {
    const auto result = run_program(arguments);
    EXPECT_EQ(result.exit_code, 3) << arguments.back() << "\n" << result.err;
    EXPECT_NE(result.err, "");
  }
}

TEST(Program, ListNamesEveryKernelAndWhy) {
  const auto result = run_program({"list", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = Json::parse(result.out);
  const std::vector<KernelReport> reports = kernel_reports({kDLCPU, 0});
  ASSERT_EQ(json["kernels"].size(), reports.size());
  for (const Json& kernel : json["kernels"]) {
    EXPECT_TRUE(kernel["can_run"].get<bool>() || kernel.contains("reason")) << kernel.dump();
  }
  const auto text = run_program({"list"});
  for (const KernelReport& report : reports) EXPECT_NE(text.out.find(report.name), std::string::npos) << report.name;
}

TEST(Program, JsonIsAReceiptAndFiltersHold) {
  const auto result = run_program(shortly({"--json"}));
  ASSERT_TRUE(result.exit_code == 0 || result.exit_code == 4) << result.exit_code << "\n" << result.err;
  const Receipt receipt = receipt_from_json(Json::parse(result.out));
  EXPECT_EQ(receipt.device.compute_capability, "cpu");
  ASSERT_EQ(receipt.cases.size(), 2u);
  for (const ReceiptCase& entry : receipt.cases) {
    EXPECT_EQ(entry.op, "sparse_gemm.spmm");
    EXPECT_EQ(entry.shape.block, 32);
    EXPECT_EQ(entry.kernel, "cpu_spmm");
    EXPECT_TRUE(entry.correct.ok && entry.correct.rechecked_after_timing) << entry.correct.detail;
    EXPECT_GT(entry.correct.checked, 0);
    ASSERT_TRUE(entry.time.has_value());
    EXPECT_LE(entry.time->p20, entry.time->p80);
    EXPECT_GT(entry.tflops, 0);
    // The rate is that of the nonzero blocks.
    const double operations = 2.0 * static_cast<double>(entry.shape.nnz_blocks) * 32 * 32 * 1024;
    EXPECT_NEAR(entry.tflops, operations / entry.time->median * 1e-9, 0.01 * entry.tflops);
    EXPECT_GT(entry.roof_tflops, 0);
    EXPECT_NE(entry.source_sha256, "");
  }
  EXPECT_TRUE(receipt.grids.empty() && receipt.crossovers.empty());
}

TEST(Program, TheGridRunsAndIsCounted) {
  const auto result = run_program({"verdict", "--device", "cpu", "--kernel", "cpu_sddmm", "--only", "grid", "--quick", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err << result.out;
  const Receipt receipt = receipt_from_json(Json::parse(result.out));
  ASSERT_EQ(receipt.grids.size(), 1u);
  EXPECT_GT(receipt.grids[0].cases, 0);
  EXPECT_EQ(receipt.grids[0].failed, 0) << receipt.grids[0].failure;
}

class Fault : public testing::TestWithParam<std::tuple<const char*, int, Outcome>> {};

// Two block sizes run; the fault strikes the first. The second must come out right: the run goes on.
TEST_P(Fault, BecomesARowAndTheRunGoesOn) {
  const auto& [kind, code, outcome] = GetParam();
  const auto result = run_program({"verdict", "--device", "cpu", "--op", "spmm", "--block", "16,32", "--quick", "--only",
                                   "timing", "--no-peers", "--json", "--timeout", std::string(kind) == "hang" ? "2" : "60"},
                                  {{"TRIAGE_TEST_FAULT", std::string(kind) + ":cpu_spmm:16"}});
  EXPECT_EQ(result.exit_code, code) << result.err;
  const Receipt receipt = receipt_from_json(Json::parse(result.out));
  ASSERT_EQ(receipt.cases.size(), 4u);
  for (const ReceiptCase& entry : receipt.cases) {
    if (entry.shape.block == 16) {
      EXPECT_EQ(entry.outcome, outcome);
      EXPECT_FALSE(entry.correct.ok);
      EXPECT_FALSE(entry.time.has_value());
      EXPECT_NE(entry.failure, "");
    } else {
      EXPECT_EQ(entry.outcome, Outcome::ok) << entry.failure;
      EXPECT_TRUE(entry.correct.ok);
    }
  }
  EXPECT_NE(result.out.find("faults were planted"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Worker, Fault,
                         testing::Values(std::tuple("hang", 5, Outcome::hung), std::tuple("crash", 5, Outcome::crashed),
                                         std::tuple("throw", 5, Outcome::crashed),
                                         std::tuple("sticky", 5, Outcome::crashed),
                                         std::tuple("wrong", 1, Outcome::wrong)),
                         [](const auto& info) { return std::string(std::get<0>(info.param)); });

TEST(Program, AFaultInAGridIsReported) {
  const auto result = run_program({"verdict", "--device", "cpu", "--kernel", "cpu_spmm,cpu_sddmm", "--only", "grid", "--quick"},
                                  {{"TRIAGE_TEST_FAULT", "crash:cpu_spmm:0"}});
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_NE(result.out.find("cpu_spmm: the correctness grid crashed"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("cpu_sddmm: "), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("FAILED: cpu_spmm on cpu"), std::string::npos) << "in the matrix too\n" << result.out;
}

TEST(Program, PlantedFaultsWriteNoReceipts) {
  const fs::path folder = fs::path(testing::TempDir()) / "planted";
  const auto result = run_program(shortly({"--receipt", folder.string()}), {{"TRIAGE_TEST_FAULT", "wrong:cpu_spmm:64"}});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_FALSE(fs::exists(folder));
}

TEST(Program, ReceiptsAndHtmlAreWritten) {
  const fs::path folder = fs::path(testing::TempDir()) / "written";
  fs::remove_all(folder);
  const auto result = run_program(shortly({"--receipt", (folder / "receipts").string(), "--html", (folder / "v.html").string()}));
  ASSERT_TRUE(result.exit_code == 0 || result.exit_code == 4) << result.err;
  const ReceiptFolder found = read_receipts((folder / "receipts").string());
  ASSERT_EQ(found.files.size(), 1u);
  EXPECT_TRUE(found.problems.empty());
  EXPECT_EQ(fs::path(found.files[0].path).filename(), "cpu_spmm.json");
  EXPECT_GT(fs::file_size(folder / "v.html"), 2000u);
  // What was written validates the CPU's column.
  const auto matrix = run_program({"matrix", "--receipts", (folder / "receipts").string(), "--json"});
  ASSERT_EQ(matrix.exit_code, 0) << matrix.err;
  for (const Json& row : Json::parse(matrix.out)["rows"]) {
    if (row["kernel"] == "cpu_spmm") {
      EXPECT_EQ(row["cells"]["cpu"]["state"], "VALIDATED");
    }
  }
  fs::remove_all(folder);
}

TEST(Program, AnOutputThatCannotBeWrittenIsASentence) {
  const auto result = run_program(shortly({"--html", "/dev/null/report.html"}));
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.err.find("/dev/null"), std::string::npos) << result.err;
}

/// Processes whose environment holds `mark`.
int processes_marked(const std::string& mark) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "environ", std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    count += text.find(mark) != std::string::npos;
  }
  return count;
}

TEST(Program, InterruptionLeavesNothingBehind) {
  const fs::path folder = fs::path(testing::TempDir()) / "interrupted";
  fs::remove_all(folder);
  const std::string mark = "TRIAGE_MARK=interrupted" + std::to_string(::getpid());
  const auto result = run_program(shortly({"--html", (folder / "v.html").string(), "--receipt", folder.string()}),
                                  {{"TRIAGE_TEST_FAULT", ""}, {"TRIAGE_MARK", mark.substr(12)}}, 0.7);
  if (result.exit_code != 130) GTEST_SKIP() << "it was done before the interruption";
  for (int i = 0; i < 50 && processes_marked(mark) > 0; ++i) ::usleep(20000);
  EXPECT_EQ(processes_marked(mark), 0);
  EXPECT_FALSE(fs::exists(folder));
}

TEST(Program, InterruptingAHangingWorkerLeavesNothingBehind) {
  const std::string mark = "TRIAGE_MARK=hanging" + std::to_string(::getpid());
  const auto result = run_program(kShort, {{"TRIAGE_TEST_FAULT", "hang:cpu_spmm:32"}, {"TRIAGE_MARK", mark.substr(12)}}, 5);
  EXPECT_EQ(result.exit_code, 130);
  for (int i = 0; i < 50 && processes_marked(mark) > 0; ++i) ::usleep(20000);
  EXPECT_EQ(processes_marked(mark), 0);
}

bool has_escapes(const std::string& text) { return text.find('\x1b') != std::string::npos; }

TEST(Program, MindsTheTerminal) {
  const Variables plain{{"NO_COLOR", ""}, {"CI", ""}, {"TERM", "xterm"}};
  const auto piped = run_program(kShort, plain);
  EXPECT_FALSE(has_escapes(piped.out) || has_escapes(piped.err));
  EXPECT_NE(piped.err.find("[2/3] cpu_spmm cube"), std::string::npos) << "one line a case\n" << piped.err;

  const auto terminal = run_on_terminal(kShort, plain);
  EXPECT_NE(terminal.out.find("\x1b[1m"), std::string::npos) << "bold headings";
  EXPECT_NE(terminal.out.find("[####"), std::string::npos) << "a bar\n" << terminal.out;

  const auto no_colour = run_on_terminal(kShort, {{"NO_COLOR", "1"}, {"CI", ""}, {"TERM", "xterm"}});
  EXPECT_EQ(no_colour.out.find("\x1b[1m"), std::string::npos);
  EXPECT_EQ(no_colour.out.find("\x1b[31m"), std::string::npos);

  const auto ci = run_on_terminal(kShort, {{"NO_COLOR", ""}, {"CI", "true"}, {"TERM", "xterm"}});
  EXPECT_FALSE(has_escapes(ci.out)) << ci.out;
}

TEST(Program, QuickIsQuick) {
  const auto result = run_program({"verdict", "--device", "cpu", "--quick"});
  EXPECT_TRUE(result.exit_code == 0 || result.exit_code == 4) << result.exit_code << "\n" << result.err << result.out;
  EXPECT_LT(result.seconds, 60);
  for (const char* kernel : {"cpu_spmm", "cpu_linear", "cpu_sddmm"}) {
    EXPECT_NE(result.out.find(std::string(kernel) + ": "), std::string::npos) << "the grid of " << kernel;
  }
  EXPECT_NE(result.out.find("What to use here"), std::string::npos);
}

}  // namespace
}  // namespace triage::verdict
