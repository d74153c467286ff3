// `--sanitize` and `--profile`: logs and tables as compute-sanitizer and Nsight Compute print them, what follows from
// them, and the whole way with stand-ins for both programs in PATH.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "program.h"
#include "verdict/profile_metrics.h"
#include "verdict/profiler.h"
#include "verdict/receipt.h"
#include "verdict/sanitizer.h"

namespace triage::verdict {
namespace {

namespace fs = std::filesystem;
using test::ProgramResult;
using test::run_program;

// --- compute-sanitizer's log

constexpr const char* kCleanLog = "========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n";
constexpr const char* kErrorLog =
    "========= COMPUTE-SANITIZER\n"
    "========= Invalid __global__ write of size 4 bytes\n"
    "=========     at triage::spmm_kernel(float *)+0x90 in spmm.cu:12\n"
    "=========     by thread (64,0,0) in block (3,0,0)\n"
    "=========     Address 0x7f0a52000100 is out of bounds\n"
    "=========     Saved host backtrace up to driver entry point at kernel launch time\n"
    "=========         Host Frame: main [0x1234] in triage\n"
    "========= \n"
    "========= Invalid __global__ write of size 4 bytes\n"
    "=========     at triage::spmm_kernel(float *)+0x90 in spmm.cu:12\n"
    "========= Target application returned an error\n"
    "========= ERROR SUMMARY: 2 errors\n";

TEST(SanitizerLog, ACleanOneIsClean) {
  const SanitizerLog log = read_sanitizer_log(kCleanLog);
  EXPECT_TRUE(log.complete);
  EXPECT_EQ(log.errors, 0);
  EXPECT_EQ(log.first_finding, "");
  EXPECT_EQ(log.warning, "");
}

TEST(SanitizerLog, TheFirstFindingIsOneLine) {
  const SanitizerLog log = read_sanitizer_log(kErrorLog);
  EXPECT_TRUE(log.complete);
  EXPECT_EQ(log.errors, 2);
  EXPECT_EQ(
      log.first_finding,
      "Invalid __global__ write of size 4 bytes at triage::spmm_kernel(float *)+0x90 in spmm.cu:12 by thread (64,0,0) "
      "in block (3,0,0)");
}

TEST(SanitizerLog, AnOverflowOfBarriersIsNoResult) {
  const SanitizerLog log = read_sanitizer_log(
      "========= COMPUTE-SANITIZER\n"
      "========= Warning: Detected overflow of tracked cuda::barrier structures. Results might be incorrect. Try using "
      "--num-cuda-barriers to fix the issue\n"
      "========= ERROR SUMMARY: 0 errors\n");
  EXPECT_NE(log.warning.find("overflow"), std::string::npos);
}

TEST(SanitizerLog, AnErrorOfTheToolsOwnIsNoResult) {
  const SanitizerLog log = read_sanitizer_log(
      "========= COMPUTE-SANITIZER\n"
      "========= Internal Sanitizer Error: Unable to allocate enough memory to perform the requested operation. The "
      "Sanitizer "
      "didn't track the launch. Errors might go undetected\n"
      "========= ERROR SUMMARY: 0 errors\n");
  EXPECT_NE(log.warning.find("Internal Sanitizer Error"), std::string::npos);
  EXPECT_EQ(log.first_finding, "");
}

TEST(SanitizerLog, ATornOneIsIncomplete) { EXPECT_FALSE(read_sanitizer_log("========= COMPUTE-SANITIZER\n").complete); }

// --- Nsight Compute's table

std::string quoted_line(const std::vector<std::string>& cells) {
  std::string line;
  for (const std::string& cell : cells) line += (line.empty() ? "\"" : ",\"") + cell + "\"";
  return line + "\n";
}

/// What `ncu --csv --page raw --print-units base` prints of one launch: the given counters, others absent.
std::string profiler_csv(const std::vector<std::pair<std::string, std::string>>& counters, int launches = 1) {
  std::vector<std::string> header{"ID",     "Process ID", "Process Name", "Host Name", "Kernel Name", "Context",
                                  "Stream", "Block Size", "Grid Size",    "Device",    "CC"};
  std::vector<std::string> units(header.size(), "");
  for (const auto& [counter, value] : counters) {
    header.push_back(counter);
    units.push_back(counter == "gpu__time_duration.sum" ? "ns" : "");
  }
  std::string text = "==PROF== Connected to process 42 (triage)\n" + quoted_line(header) + quoted_line(units);
  for (int i = 0; i < launches; ++i) {
    std::vector<std::string> cells{
        std::to_string(i), "42",          "triage", "127.0.0.1", "void spmm<64, 2>(Params, \"\"x\"\")", "1", "13",
        "(384, 1, 1)",     "(132, 1, 1)", "0",      "9.0"};
    for (const auto& counter : counters) cells.push_back(counter.second);
    text += quoted_line(cells);
  }
  return text;
}

TEST(ProfilerTable, CountersBecomeMetricsAndStallsAreSorted) {
  const std::vector<ProfiledLaunch> launches =
      read_profiler_csv(profiler_csv({{"gpu__time_duration.sum", "1,234,500"},
                                      {"sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed", "81.25"},
                                      {"launch__registers_per_thread", "168"},
                                      {"l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum", "n/a"},
                                      {"smsp__average_warps_issue_stalled_wait_per_issue_active.ratio", "1.5"},
                                      {"smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio", "3.5"}},
                                     2));
  ASSERT_EQ(launches.size(), 2U);
  EXPECT_EQ(launches[0].name, "void spmm<64, 2>(Params, \"x\")");
  EXPECT_EQ(launches[0].grid, "(132, 1, 1)");
  EXPECT_DOUBLE_EQ(launches[0].metric("time_us"), 1234.5);
  EXPECT_DOUBLE_EQ(launches[0].metric("tensor_percent"), 81.25);
  EXPECT_DOUBLE_EQ(launches[0].metric("registers"), 168);
  EXPECT_DOUBLE_EQ(launches[0].metric("bank_conflicts", -1), -1);  // n/a is no zero
  ASSERT_EQ(launches[0].stalls.size(), 2U);
  EXPECT_EQ(launches[0].stalls[0].first, "barrier");
}

TEST(ProfilerTable, UnitsThatWereScaledAllTheSameAreTakenBack) {
  std::string text = profiler_csv({{"gpu__time_duration.sum", "1.5"}});
  text.replace(text.find("\"ns\""), 4, "\"ms\"");
  EXPECT_DOUBLE_EQ(read_profiler_csv(text).at(0).metric("time_us"), 1500);
}

TEST(ProfilerTable, NoTableIsAnErrorAndNotEmpty) {
  EXPECT_THROW(read_profiler_csv("==WARNING== No kernels were profiled.\n"), std::runtime_error);
  EXPECT_TRUE(read_profiler_csv(profiler_csv({{"gpu__time_duration.sum", "1"}}, 0)).empty());
}

ProfiledLaunch launch_with(std::vector<std::pair<std::string, double>> metrics) {
  ProfiledLaunch launch;
  launch.metrics = std::move(metrics);
  launch.stalls = {{"selected", 9}, {"long_scoreboard", 5}, {"wait", 1}};
  return launch;
}

TEST(LimitingSentence, NamesTheSaturatedUnit) {
  EXPECT_EQ(limiting_sentence(launch_with({{"tensor_percent", 88}, {"dram_percent", 20}})),
            "limited by the tensor cores: 88% of peak");
  EXPECT_EQ(limiting_sentence(launch_with({{"tensor_percent", 8}, {"dram_percent", 91}})),
            "limited by memory bandwidth: 91% of peak");
}

TEST(LimitingSentence, SaysWhatWarpsWaitForWhereNothingIsSaturated) {
  const std::string text = limiting_sentence(launch_with({{"tensor_percent", 40}, {"l2_percent", 55}}));
  EXPECT_EQ(text,
            "no unit is saturated; the busiest is the L2's bandwidth at 55% of peak, and warps wait most for data "
            "from L1, L2 or memory (long_scoreboard)");
}

TEST(LimitingSentence, SpillsConflictsAndSmallGridsAreNamed) {
  const std::string text = limiting_sentence(launch_with({{"tensor_percent", 90},
                                                          {"waves", 0.5},
                                                          {"local_loads", 100},
                                                          {"local_stores", 28},
                                                          {"shared_wavefronts", 1000},
                                                          {"bank_conflicts", 250}}));
  EXPECT_NE(text.find("fills 50% of the device"), std::string::npos) << text;
  EXPECT_NE(text.find("128 instructions move spilled registers"), std::string::npos) << text;
  EXPECT_NE(text.find("25% of the accesses to shared memory"), std::string::npos) << text;
}

TEST(ProfileMetrics, CountersAreNamedOnce) {
  std::vector<std::string> names;
  for (const ProfileMetric& metric : profile_metrics()) names.insert(names.end(), {metric.name, metric.counter});
  for (const StallReason& reason : stall_reasons()) names.push_back(reason.name);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

// --- The whole way

class Evidence : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              ("evidence-" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "bin");
    fs::create_directories(folder_ / "tmp");
  }
  void TearDown() override { fs::remove_all(folder_); }

  void stand_in(const std::string& name, const std::string& script) {
    const fs::path path = folder_ / "bin" / name;
    std::ofstream(path) << "#!/bin/sh\n" << script;
    ::chmod(path.c_str(), 0755);
  }

  /// A compute-sanitizer that runs the worker and then writes this log for the named tool, a clean one for the others.
  void sanitizer(const std::string& tool, const std::string& log, const std::string& before = "") {
    std::ofstream(folder_ / "log") << log;
    std::ofstream(folder_ / "clean") << kCleanLog;
    stand_in(
        "compute-sanitizer",
        "[ \"$1\" = --version ] && { echo 'NVIDIA (R) Compute Sanitizer'; echo 'Version 2025.3.1.0 (build 36398880)'; "
        "exit 0; }\n"
        "echo \"$*\" >> '" +
            (folder_ / "calls").string() +
            "'\n"
            "while [ $# -gt 0 ]; do case $1 in --tool) tool=$2;; --log-file) log=$2;; --*) ;; *) break;; esac; shift "
            "2; done\n" +
            before +
            "\"$@\"; code=$?\n"
            "if [ $tool = " +
            tool + " ]; then cat '" + (folder_ / "log").string() + "'; else cat '" + (folder_ / "clean").string() +
            "'; fi > \"$log\"\nexit $code\n");
  }

  void profiler(const std::string& output, int exit_code = 0) {
    std::ofstream(folder_ / "csv") << output;
    stand_in("ncu",
             "[ \"$1\" = --version ] && { echo 'Version 2025.3.1.0 (build 36398880) (public-release)'; exit 0; }\n"
             "echo \"$*\" >> '" +
                 (folder_ / "calls").string() +
                 "'\n"
                 "while [ $# -gt 0 ]; do case $1 in --log-file) log=$2; shift 2;; --csv) shift;; --*) shift 2;; *) "
                 "break;; esac; done\n"
                 "\"$@\"\ncat '" +
                 (folder_ / "csv").string() + "' > \"$log\"\nexit " + std::to_string(exit_code) + "\n");
  }

  ProgramResult run(std::vector<std::string> more, test::Variables variables = {}, double interrupt_after = 0) {
    std::vector<std::string> arguments{"verdict", "--device", "cpu", "--kernel", "cpu_sddmm", "--only", "evidence"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    variables.insert(variables.end(), {{"PATH", (folder_ / "bin").string() + ":/usr/bin:/bin"},
                                       {"TMPDIR", (folder_ / "tmp").string()},
                                       {"CUDA_HOME", ""},
                                       {"CUDA_PATH", ""},
                                       {"TRIAGE_TEST_EVIDENCE_ON_CPU", "1"}});
    return run_program(arguments, variables, interrupt_after);
  }

  std::string calls() {
    std::ifstream file(folder_ / "calls");
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  bool nothing_left() { return fs::is_empty(folder_ / "tmp"); }

  fs::path folder_;
};

const std::string kGoodTable = profiler_csv({{"gpu__time_duration.sum", "450000"},
                                             {"sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed", "81"},
                                             {"launch__registers_per_thread", "168"},
                                             {"smsp__average_warps_issue_stalled_gmma_per_issue_active.ratio", "2"}});

TEST_F(Evidence, TheThreeToolsRunOverAFewProblems) {
  sanitizer("none", "");
  const ProgramResult result = run({"--sanitize", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err << result.out;
  const auto json = nlohmann::json::parse(result.out);
  ASSERT_EQ(json.at("sanitizer").size(), 3U);
  const char* tools[] = {"memcheck", "initcheck", "synccheck"};
  for (std::size_t i = 0; i < 3; ++i) {
    const auto& entry = json.at("sanitizer")[i];
    EXPECT_EQ(entry.at("tool"), tools[i]);
    EXPECT_EQ(entry.at("kernel"), "cpu_sddmm");
    EXPECT_EQ(entry.at("version"), "2025.3.1.0");
    EXPECT_GE(entry.at("problems"), 5);
    EXPECT_EQ(entry.at("errors"), 0);
    EXPECT_FALSE(entry.contains("outcome"));
  }
  EXPECT_NE(calls().find("--tool synccheck"), std::string::npos);
  EXPECT_NE(calls().find("--num-cuda-barriers"), std::string::npos);
  EXPECT_EQ(json.at("cases").size(), 0U);  // nothing was timed
  EXPECT_TRUE(nothing_left());
}

TEST_F(Evidence, AnErrorIsCodeOneAndTheRowSaysSo) {
  sanitizer("initcheck", kErrorLog);
  const ProgramResult result = run({"--sanitize"});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_NE(result.out.find("NOT ALL RIGHT"), std::string::npos);
  EXPECT_NE(result.out.find("ERRORS cpu_sddmm initcheck: Invalid __global__ write"), std::string::npos) << result.out;
  EXPECT_EQ(result.out.find("ERRORS cpu_sddmm memcheck"), std::string::npos);
}

TEST_F(Evidence, AJobThatFailsUnderTheToolIsNoAnswer) {
  sanitizer("none", "");
  const ProgramResult result = run({"--sanitize", "--json"}, {{"TRIAGE_TEST_FAULT", "throw:cpu_sddmm:0"}});
  EXPECT_EQ(result.exit_code, 5) << result.out;
  EXPECT_NE(result.out.find("a planted error"), std::string::npos) << result.out;
}

TEST_F(Evidence, AToolThatRanOutOfMemoryIsNoAnswer) {
  sanitizer("synccheck",
            "========= COMPUTE-SANITIZER\n========= Internal Sanitizer Error: Unable to allocate enough memory\n"
            "========= ERROR SUMMARY: 0 errors\n");
  const ProgramResult result = run({"--sanitize"});
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_NE(result.out.find("NO ANSWER cpu_sddmm synccheck: Internal Sanitizer Error"), std::string::npos)
      << result.out;
}

TEST_F(Evidence, AToolThatDiesIsNotClean) {
  stand_in("compute-sanitizer", "[ \"$1\" = --version ] && exit 0\necho 'no such tool' >&2; exit 3\n");
  const ProgramResult result = run({"--sanitize", "--json"});
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_NE(result.out.find("it exited with code 3"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("no such tool"), std::string::npos) << result.out;
}

TEST_F(Evidence, AHangIsStopped) {
  sanitizer("none", "", "sleep 100\n");
  const ProgramResult result = run({"--sanitize", "--json", "--timeout", "1"});
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_LT(result.seconds, 30);
  EXPECT_NE(result.out.find("\"outcome\": \"hung\""), std::string::npos) << result.out;
  EXPECT_TRUE(nothing_left());
}

TEST_F(Evidence, InterruptionEndsTheToolAndLeavesNothing) {
  sanitizer("none", "", "echo $$ > '" + (folder_ / "pid").string() + "'; sleep 100\n");
  const ProgramResult result = run({"--sanitize"}, {}, 2);
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_LT(result.seconds, 30);
  EXPECT_TRUE(nothing_left());
  int pid = 0;
  std::ifstream(folder_ / "pid") >> pid;
  ASSERT_GT(pid, 0);
  for (int i = 0; i < 100 && ::kill(pid, 0) == 0; ++i) ::usleep(20000);
  EXPECT_NE(::kill(pid, 0), 0) << "the tool still runs";
}

TEST_F(Evidence, MissingToolsAreSentencesAndCodeThree) {
  for (const char* name : {"ncu", "compute-sanitizer"}) {
    if (fs::exists(fs::path("/usr/local/cuda/bin") / name)) GTEST_SKIP() << "SKIPPED: this machine has " << name;
  }
  const ProgramResult result = run({"--sanitize", "--profile"});
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_NE(result.out.find("compute-sanitizer was not found"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("ncu was not found"), std::string::npos) << result.out;
}

TEST_F(Evidence, AProfileIsATableAndASentence) {
  profiler(kGoodTable);
  const ProgramResult result = run({"--profile", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err << result.out;
  const auto profile = nlohmann::json::parse(result.out).at("profiles").at(0);
  EXPECT_EQ(profile.at("kernel"), "cpu_sddmm");
  EXPECT_EQ(profile.at("shape").at("name"), "cube");
  EXPECT_GT(profile.at("shape").at("nnz_blocks"), 0);
  EXPECT_EQ(profile.at("launches").at(0).at("metrics").at("registers"), 168);
  EXPECT_EQ(profile.at("limited_by"), "limited by the tensor cores: 81% of peak");
  EXPECT_NE(calls().find("--clock-control none --profile-from-start off"), std::string::npos) << calls();
  const ProgramResult markdown = run({"--profile", "--md"});
  EXPECT_NE(markdown.out.find("limited by the tensor cores: 81% of peak"), std::string::npos) << markdown.out;
  EXPECT_NE(markdown.out.find("gmma 100%"), std::string::npos) << markdown.out;
  EXPECT_TRUE(nothing_left());
}

TEST_F(Evidence, NoPermissionIsASentence) {
  profiler(
      "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters on the "
      "target device 0.\n",
      1);
  const ProgramResult result = run({"--profile"});
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_NE(result.out.find("there is no permission to read the GPU's performance counters"), std::string::npos)
      << result.out;
}

TEST_F(Evidence, ACounterThatIsNotKnownIsLeftOut) {
  std::ofstream(folder_ / "csv") << kGoodTable;
  stand_in("ncu",
           "[ \"$1\" = --version ] && exit 0\n"
           "all=\"$*\"\n"
           "while [ $# -gt 0 ]; do case $1 in --log-file) log=$2; shift 2;; --csv) shift;; --*) shift 2;; *) break;; "
           "esac; done\n"
           "case $all in *stalled_gmma_*) echo '==ERROR== Failed to find metric "
           "regex:^smsp__average_warps_issue_stalled_gmma_"
           "per_issue_active\\.(sum|min|max|avg|pct|ratio|max_rate)(\\..+)?$' > \"$log\"; exit 1;; esac\n"
           "\"$@\"\ncat '" +
               (folder_ / "csv").string() + "' > \"$log\"\n");
  const ProgramResult result = run({"--profile"});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_NE(result.out.find("limited by the tensor cores"), std::string::npos) << result.out;
}

TEST_F(Evidence, AProfilerThatFailsIsNotAProfile) {
  profiler("==ERROR== Failed to profile \"spmm\" in process 42\n", 9);
  const ProgramResult result = run({"--profile"});
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_NE(result.out.find("the profile failed: ==ERROR== Failed to profile"), std::string::npos) << result.out;
}

TEST_F(Evidence, IsAddedToACurrentReceiptAndToNoOther) {
  sanitizer("none", "");
  profiler(kGoodTable);
  const std::string receipts = (folder_ / "receipts").string();
  // No receipt yet: a sentence, and nothing is written.
  const ProgramResult early = run({"--sanitize", "--receipt", receipts});
  EXPECT_EQ(early.exit_code, 2) << early.err;
  EXPECT_NE(early.err.find("there is no such receipt"), std::string::npos) << early.err;
  EXPECT_FALSE(fs::exists(receipts));

  const ProgramResult made = run_program(
      {"verdict", "--device", "cpu", "--kernel", "cpu_sddmm", "--only", "grid", "--quick", "--receipt", receipts});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  ASSERT_EQ(run({"--sanitize", "--receipt", receipts}).exit_code, 0);
  ASSERT_EQ(run({"--profile", "--receipt", receipts}).exit_code, 0);  // keeps the sanitizer's
  ReceiptFolder stored = read_receipts(receipts);
  ASSERT_EQ(stored.files.size(), 1U);
  const Receipt& receipt = stored.files[0].receipt;
  EXPECT_EQ(receipt.grids.size(), 1U);
  EXPECT_EQ(receipt.sanitizer.size(), 3U);
  ASSERT_EQ(receipt.profiles.size(), 1U);
  EXPECT_EQ(receipt.profiles[0].launches.at(0).metric("registers"), 168);
  ASSERT_EQ(run({"--profile", "--sanitize", "--receipt", receipts}).exit_code, 0);  // again: replaced, not doubled
  EXPECT_EQ(read_receipts(receipts).files[0].receipt.sanitizer.size(), 3U);
  EXPECT_EQ(read_receipts(receipts).files[0].receipt.profiles.size(), 1U);

  // A later full run of the same sources keeps the evidence.
  ASSERT_EQ(run_program({"verdict", "--device", "cpu", "--kernel", "cpu_sddmm", "--only", "grid", "--quick",
                         "--receipt", receipts})
                .exit_code,
            0);
  EXPECT_EQ(read_receipts(receipts).files[0].receipt.sanitizer.size(), 3U);

  // Stale: left as it is.
  const std::string path = stored.files[0].path;
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  std::string stale = text.str();
  for (std::size_t at = 0; (at = stale.find(receipt.grids[0].source_sha256, at)) != std::string::npos;) {
    stale.replace(at, receipt.grids[0].source_sha256.size(), "0123");
  }
  std::ofstream(path) << stale;
  const ProgramResult refused = run({"--sanitize", "--receipt", receipts});
  EXPECT_EQ(refused.exit_code, 2) << refused.err;
  EXPECT_NE(refused.err.find("STALE"), std::string::npos) << refused.err;
  std::stringstream after;
  after << std::ifstream(path).rdbuf();
  EXPECT_EQ(after.str(), stale);
}

TEST(EvidenceOptions, MistakesAreSentences) {
  const ProgramResult bare = run_program({"verdict", "--only", "evidence"});
  EXPECT_EQ(bare.exit_code, 2);
  EXPECT_NE(bare.err.find("--only evidence needs --sanitize, --profile or both"), std::string::npos) << bare.err;
  const ProgramResult cpu = run_program({"verdict", "--device", "cpu", "--only", "evidence", "--sanitize"});
  EXPECT_EQ(cpu.exit_code, 3);
  EXPECT_NE(cpu.err.find("look at GPU kernels"), std::string::npos) << cpu.err;
}

}  // namespace
}  // namespace triage::verdict
