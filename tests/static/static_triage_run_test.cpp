// How static triage behaves when files, compilers and users do not: with compilers of our own making, so that no nvcc
// is needed, and a few with the real one.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "static/static_test.h"
#include "verdict/static_triage.h"

namespace {

namespace fs = std::filesystem;
using namespace triage::static_triage;
using Json = nlohmann::json;

constexpr const char* kSource = "__global__ void k(float* p) { *p = 1.0f; }\n";

// A stand-in for nvcc that answers the questions about itself, and does `deed` when it is asked to compile: $out is
// the file to write. $ptx holds a module with one kernel.
std::string fake_nvcc(const TemporaryDirectory& directory, const std::string& deed) {
  const std::string path = directory.write("fake/nvcc", R"(#!/bin/sh
case "$1" in
  --version) echo "Cuda compilation tools, release 13.0, V13.0.88"; exit 0;;
  --list-gpu-arch) echo compute_80; echo compute_90; exit 0;;
esac
out=""; previous=""
for a in "$@"; do [ "$previous" = "-o" ] && out="$a"; previous="$a"; done
ptx='.version 9.0
.target sm_80
.visible .entry _Z1kPf(
)
{
st.global.u32 [%rd1], %r1;
ret;
}'
)" + deed + "\n");
  chmod(path.c_str(), 0755);
  return path;
}

// Compiles everything.
constexpr const char* kGoodDeed = R"(echo "$ptx" > "$out"
case "$*" in *-cubin*) echo "ptxas info    : Compiling entry function '_Z1kPf' for 'sm_80'
ptxas info    : Function properties for _Z1kPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers";; esac)";

struct Outcome {
  int code;
  Json report;
  std::string errors;
};

Outcome run(StaticTriageOptions options, const TemporaryDirectory& directory) {
  options.outputs = {{ReportFormat::json, directory.path() + "/report.json"}};
  if (options.architectures.empty()) options.architectures = {"80"};
  fs::remove(directory.path() + "/report.json");
  testing::internal::CaptureStderr();
  Outcome outcome{run_static_triage(options), nullptr, ""};
  outcome.errors = testing::internal::GetCapturedStderr();
  const std::string text = read_text(directory.path() + "/report.json");
  if (!text.empty()) outcome.report = Json::parse(text);
  return outcome;
}

bool is_empty(const std::string& directory) { return fs::is_empty(directory); }

// Temporary files of the run land here.
class ScratchPlace {
 public:
  explicit ScratchPlace(const TemporaryDirectory& directory) : path_(directory.path() + "/tmp") {
    fs::create_directory(path_);
    const char* old = getenv("TMPDIR");
    previous_ = old ? old : "";
    setenv("TMPDIR", path_.c_str(), 1);
  }
  ~ScratchPlace() {
    if (previous_.empty()) unsetenv("TMPDIR");
    else setenv("TMPDIR", previous_.c_str(), 1);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_, previous_;
};

TEST(StaticTriageRun, BadRequestsGetASentenceAndNothingIsCompiled) {
  const TemporaryDirectory directory;
  const std::string nvcc = fake_nvcc(directory, "touch " + directory.path() + "/compiled; exit 1");
  const std::string good = directory.write("good.cu", kSource);
  const std::string empty = directory.write("empty.cu", "");
  struct Case {
    const char* what;
    StaticTriageOptions options;
    const char* words;
  };
  const auto with = [&](auto change) {
    StaticTriageOptions options;
    options.files = {good};
    options.nvcc = nvcc;
    change(options);
    return options;
  };
  using O = StaticTriageOptions;
  const std::vector<Case> cases = {
      {"no file", with([](O& o) { o.files.clear(); }), "no source file is named"},
      {"missing", with([&](O& o) { o.files.push_back(directory.path() + "/no such.cu"); }), "No such file"},
      {"directory", with([&](O& o) { o.files = {directory.path()}; }), "is a directory"},
      {"empty", with([&](O& o) { o.files = {empty}; }), "is empty"},
      {"device", with([](O& o) { o.files = {"/dev/null"}; }), "no regular file"},
      {"shell", with([](O& o) { o.files = {"$(id).cu"}; }), "could run a command"},
      {"quote", with([](O& o) { o.files = {"a\"b.cu"}; }), "could run a command"},
      {"arch", with([](O& o) { o.architectures = {"80,hopper"}; }), "'hopper' is no architecture"},
      {"no arch", with([](O& o) { o.architectures = {""}; }), "no architecture is named"},
      {"std", with([](O& o) { o.cpp_standard = 18; }), "18 is no C++ standard"},
      {"timeout", with([](O& o) { o.timeout_seconds = 0; }), "--timeout"},
      {"nan", with([](O& o) { o.timeout_seconds = std::stod("nan"); }), "--timeout"},
      {"jobs", with([](O& o) { o.jobs = -1; }), "--jobs"},
      {"include", with([](O& o) { o.include_dirs = {"/no/such/dir"}; }), "is no directory"},
      {"define", with([](O& o) { o.defines = {"1X"}; }), "is no macro"},
      {"define shell", with([](O& o) { o.defines = {"X=`id`"}; }), "could run a command"},
      {"run", with([](O& o) { o.nvcc_flags = {"--run"}; }), "never runs it"},
      {"gencode", with([](O& o) { o.nvcc_flags = {"-gencode=arch=compute_80,code=sm_80"}; }), "use --arch"},
      {"output", with([](O& o) { o.nvcc_flags = {"-o", "x"}; }), "writes files"},
      {"options file", with([](O& o) { o.nvcc_flags = {"-optf", "x"}; }), "write them out"},
      {"source behind --", with([](O& o) { o.nvcc_flags = {"x.cu"}; }), "is no flag"},
      {"flag shell", with([](O& o) { o.nvcc_flags = {"-Xcompiler", ";id"}; }), "could run a command"},
  };
  for (const Case& test : cases) {
    const Outcome outcome = run(test.options, directory);
    EXPECT_EQ(outcome.code, kUsage) << test.what;
    EXPECT_NE(outcome.errors.find(test.words), std::string::npos) << test.what << ": " << outcome.errors;
    EXPECT_TRUE(outcome.report.is_null()) << test.what;
  }
  EXPECT_FALSE(fs::exists(directory.path() + "/compiled"));
}

TEST(StaticTriageRun, UsableFlagsPass) {
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{{"-O3"}, {"--use_fast_math"}, {"-maxrregcount", "64"}, {"-rdc=true"},
                                             {"-Xptxas", "-O2"}, {"--expt-relaxed-constexpr"}, {"-ccbin", "g++-12"},
                                             {"-Xcompiler", "-Wall,-Wextra"}, {"-G"}, {"-ftz=true"}}) {
    EXPECT_EQ(refused_flag(flags), "");
  }
}

TEST(StaticTriageRun, NoCompilerIsASentenceAndExitCode3) {
  const TemporaryDirectory directory;
  StaticTriageOptions options;
  options.files = {directory.write("a.cu", kSource)};
  options.nvcc = directory.path() + "/no/nvcc";
  Outcome outcome = run(options, directory);
  EXPECT_EQ(outcome.code, kNoCompiler);
  EXPECT_NE(outcome.errors.find("Install the CUDA toolkit"), std::string::npos) << outcome.errors;
  options.nvcc = "/bin/true";  // something else under that name
  outcome = run(options, directory);
  EXPECT_EQ(outcome.code, kNoCompiler);
  EXPECT_NE(outcome.errors.find("does not answer --version"), std::string::npos) << outcome.errors;
}

TEST(StaticTriageRun, FindsNvccInCudaHome) {
  const TemporaryDirectory directory;
  const std::string nvcc = fake_nvcc(directory, kGoodDeed);
  fs::create_directories(directory.path() + "/cuda/bin");
  fs::copy_file(nvcc, directory.path() + "/cuda/bin/nvcc");
  const std::string path = getenv("PATH");
  setenv("CUDA_HOME", (directory.path() + "/cuda").c_str(), 1);
  setenv("PATH", "/usr/bin:/bin", 1);
  StaticTriageOptions options;
  options.files = {directory.write("a.cu", kSource)};
  const Outcome outcome = run(options, directory);
  setenv("PATH", path.c_str(), 1);
  unsetenv("CUDA_HOME");
  if (fs::exists("/usr/bin/nvcc")) GTEST_SKIP() << "an nvcc in /usr/bin comes first";
  EXPECT_EQ(outcome.code, kAllCompile) << outcome.errors;
  EXPECT_EQ(outcome.report["nvcc"]["path"], directory.path() + "/cuda/bin/nvcc");
}

TEST(StaticTriageRun, ACompileThatHangsIsKilledWithAllItsChildren) {
  const TemporaryDirectory directory;
  const ScratchPlace scratch(directory);
  StaticTriageOptions options;
  options.nvcc = fake_nvcc(directory, "sleep 300 & echo $! > " + directory.path() + "/pid\nwait");
  options.files = {directory.write("a.cu", kSource)};
  options.timeout_seconds = 0.5;
  const auto begin = std::chrono::steady_clock::now();
  const Outcome outcome = run(options, directory);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  EXPECT_EQ(outcome.code, kTimeoutOrCrash);
  EXPECT_EQ(outcome.report["files"][0]["matrix"][0]["text"], "NO ANSWER (timed out)");
  EXPECT_EQ(outcome.report["files"][0]["causes"][0]["kind"], "timeout");
  EXPECT_TRUE(is_empty(scratch.path()));
  const int sleeper = std::stoi(read_text(directory.path() + "/pid"));
  // A killed process may stay a moment as a zombie of init's.
  bool gone = false;
  for (int i = 0; i < 100 && !gone; ++i) {
    const std::string state = read_text("/proc/" + std::to_string(sleeper) + "/stat");
    gone = state.empty() || state.find(") Z") != std::string::npos;
    if (!gone) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_TRUE(gone);
}

TEST(StaticTriageRun, ACompilerThatDiesIsACrash) {
  const TemporaryDirectory directory;
  const ScratchPlace scratch(directory);
  for (const char* deed : {"echo \"nvcc error   : 'cicc' died due to signal 11 (Invalid memory reference)\"; exit 1",
                           "kill -SEGV $$"}) {
    StaticTriageOptions options;
    options.nvcc = fake_nvcc(directory, deed);
    options.files = {directory.write("a.cu", kSource)};
    const Outcome outcome = run(options, directory);
    EXPECT_EQ(outcome.code, kTimeoutOrCrash) << deed;
    EXPECT_EQ(outcome.report["files"][0]["causes"][0]["kind"], "crash") << deed;
    EXPECT_TRUE(is_empty(scratch.path()));
  }
}

TEST(StaticTriageRun, MountainsOfGarbageAreAnError) {
  const TemporaryDirectory directory;
  StaticTriageOptions options;
  options.nvcc = fake_nvcc(directory, "head -c 20000000 /dev/zero | tr '\\0' '\\377'; echo; echo 'a.cu(1): error: \xff bad'; exit 1");
  options.files = {directory.write("a.cu", kSource)};
  const Outcome outcome = run(options, directory);  // the report parses: it is UTF-8
  EXPECT_EQ(outcome.code, kSomeWillNotRun);
}

TEST(StaticTriageRun, AFailureWithoutAWordIsNoSuccess) {
  const TemporaryDirectory directory;
  StaticTriageOptions options;
  options.nvcc = fake_nvcc(directory, "exit 1");
  options.files = {directory.write("a.cu", kSource)};
  const Outcome outcome = run(options, directory);
  EXPECT_EQ(outcome.code, kSomeWillNotRun);
  EXPECT_EQ(outcome.report["files"][0]["matrix"][0]["state"], "wont_compile");
}

TEST(StaticTriageRun, AMissingHostCompilerIsTheToolchainsFault) {
  const TemporaryDirectory directory;
  StaticTriageOptions options;
  options.nvcc = fake_nvcc(directory, "echo \"sh: 1: gcc: not found\"; exit 127");
  options.files = {directory.write("a.cu", kSource)};
  const Outcome outcome = run(options, directory);
  EXPECT_EQ(outcome.code, kNoCompiler);
  EXPECT_EQ(outcome.report["files"][0]["causes"][0]["kind"], "toolchain");
}

TEST(StaticTriageRun, UnknownArchitecturesAreAColumnOfTheirOwn) {
  const TemporaryDirectory directory;
  StaticTriageOptions options;
  options.nvcc = fake_nvcc(directory, kGoodDeed);
  options.files = {directory.write("a.cu", kSource)};
  options.architectures = {"80", "120a"};  // the stand-in knows 80 and 90
  Outcome outcome = run(options, directory);
  EXPECT_EQ(outcome.code, kNoCompiler);  // asked for by name
  EXPECT_EQ(outcome.report["unknown_targets"], Json({"120a"}));
  EXPECT_EQ(outcome.report["files"][0]["matrix"][0]["text"], "COMPILES");
  EXPECT_EQ(outcome.report["files"][0]["matrix"][1]["text"], "UNKNOWN TO THIS NVCC");
  // A base that is known with a suffix that is not.
  options.nvcc = fake_nvcc(directory, "echo \"nvcc fatal   : Unsupported gpu architecture 'compute_90a'\"; exit 1");
  options.architectures = {"90a"};
  outcome = run(options, directory);
  EXPECT_EQ(outcome.code, kNoCompiler);
  EXPECT_EQ(outcome.report["files"][0]["matrix"][0]["text"], "UNKNOWN TO THIS NVCC");
}

TEST(StaticTriageRun, FiftyFilesAtOnce) {
  const TemporaryDirectory directory;
  const ScratchPlace scratch(directory);
  StaticTriageOptions options;
  options.nvcc = fake_nvcc(directory, kGoodDeed);
  for (int i = 0; i < 50; ++i) {
    options.files.push_back(directory.write("many files/" + std::to_string(i) + "/kernel.cu", kSource));
  }
  options.architectures = {"80,90"};
  options.jobs = 4;
  const Outcome outcome = run(options, directory);
  EXPECT_EQ(outcome.code, kAllCompile);
  ASSERT_EQ(outcome.report["files"].size(), 50U);
  for (std::size_t i = 0; i < 50; ++i) {
    EXPECT_EQ(outcome.report["files"][i]["path"], options.files[i]);
    EXPECT_EQ(outcome.report["files"][i]["kernels"][0]["name"], "k");
  }
  EXPECT_NE(outcome.errors.find("[50/50]"), std::string::npos) << outcome.errors;
  EXPECT_TRUE(is_empty(scratch.path()));
}

TEST(StaticTriageRun, FlagsOfTheEnvironmentCannotRunTheProgram) {
  const TemporaryDirectory directory;
  StaticTriageOptions options;
  options.nvcc = fake_nvcc(directory, "echo \"flags:$NVCC_APPEND_FLAGS\" > " + directory.path() + "/seen\n" + kGoodDeed);
  options.files = {directory.write("a.cu", kSource)};
  setenv("NVCC_APPEND_FLAGS", "--run", 1);
  Outcome outcome = run(options, directory);
  EXPECT_NE(outcome.errors.find("NVCC_APPEND_FLAGS is ignored"), std::string::npos) << outcome.errors;
  EXPECT_EQ(read_text(directory.path() + "/seen"), "flags:\n");
  setenv("NVCC_APPEND_FLAGS", "-O2", 1);
  outcome = run(options, directory);
  EXPECT_EQ(read_text(directory.path() + "/seen"), "flags:-O2\n");
  unsetenv("NVCC_APPEND_FLAGS");
}

TEST(StaticTriageRun, CtrlCStopsCompilesAndLeavesNothing) {
  const TemporaryDirectory directory;
  const ScratchPlace scratch(directory);
  StaticTriageOptions options;
  options.nvcc = fake_nvcc(directory, "touch " + directory.path() + "/started; sleep 300");
  options.files = {directory.write("a.cu", kSource), directory.write("b.cu", kSource)};
  options.architectures = {"80,90"};
  options.outputs = {{ReportFormat::json, directory.path() + "/report.json"}};
  const pid_t child = fork();
  if (child == 0) {
    if (freopen("/dev/null", "w", stderr) == nullptr) _exit(99);
    _exit(run_static_triage(options));
  }
  for (int i = 0; i < 500 && !fs::exists(directory.path() + "/started"); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  ASSERT_EQ(kill(child, SIGINT), 0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), kInterrupted);
  EXPECT_TRUE(is_empty(scratch.path()));
  EXPECT_FALSE(fs::exists(directory.path() + "/report.json"));
}

TEST(StaticTriageRun, AnOutputThatCannotBeWrittenIsSaid) {
  const TemporaryDirectory directory;
  StaticTriageOptions options;
  options.nvcc = fake_nvcc(directory, kGoodDeed);
  options.files = {directory.write("a.cu", kSource)};
  options.architectures = {"80"};
  options.outputs = {{ReportFormat::html, directory.path() + "/no/such/report.html"}};
  testing::internal::CaptureStderr();
  EXPECT_EQ(run_static_triage(options), kUsage);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("cannot write"), std::string::npos);
}

TEST(StaticTriageRun, EveryFormIsWrittenAndHoldsWhatTheSourceSays) {
  const TemporaryDirectory directory;
  StaticTriageOptions options;
  options.nvcc = fake_nvcc(directory, "echo 'a.cu(1): error: identifier \"<script>|x\" is undefined'; exit 1");
  options.files = {directory.write("a.cu", kSource)};
  options.architectures = {"80"};
  options.outputs = {{ReportFormat::html, directory.path() + "/r.html"},
                     {ReportFormat::markdown, directory.path() + "/r.md"},
                     {ReportFormat::text, directory.path() + "/r.txt"}};
  testing::internal::CaptureStderr();
  EXPECT_EQ(run_static_triage(options), kSomeWillNotRun);
  testing::internal::GetCapturedStderr();
  const std::string html = read_text(directory.path() + "/r.html");
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_NE(html.find("&lt;script&gt;"), std::string::npos);
  for (const char* name : {"/r.html", "/r.md", "/r.txt"}) {
    const std::string text = read_text(directory.path() + name);
    for (const char* part : {"Executive summary", "Architecture support matrix", "Root causes", "Path forward"}) {
      EXPECT_NE(text.find(part), std::string::npos) << name << " lacks " << part;
    }
  }
}

// ---- with the real compiler ----

TEST(StaticTriageRun, PathsWithSpacesAndHeadersBesideThem) {
  if (!nvcc_present()) GTEST_SKIP() << "no nvcc";
  const TemporaryDirectory directory;
  directory.write("a folder/sub folder/sizes here.h", "#define THREADS 256\n");
  directory.write("other (2)/tile.h", "constexpr int kTile = 64;\n");
  StaticTriageOptions options;
  options.files = {directory.write("a folder/my kernel's.cu",
                                   "#include \"sub folder/sizes here.h\"\n#include \"tile.h\"\n"
                                   "__global__ void k(float* p) { float a[kTile / THREADS]; a[0] = 1; p[0] = a[0]; }\n")};
  options.include_dirs = {directory.path() + "/other (2)"};
  options.defines = {"UNUSED=\"a b\""};
  options.cpp_standard = 17;
  options.architectures = {"89"};
  const Outcome outcome = run(options, directory);
  EXPECT_EQ(outcome.code, kSomeWillNotRun);
  const Json& cause = outcome.report["files"][0]["causes"][0];
  EXPECT_EQ(cause["kind"], "zero-sized-array");
  EXPECT_EQ(cause["where"]["line"], 3);
  EXPECT_EQ(cause["where"]["file"], options.files[0]);
  EXPECT_NE(cause["found"].get<std::string>().find("kTile=64 / THREADS=256 = 0"), std::string::npos) << cause["found"];
}

TEST(StaticTriageRun, ASourceThatKeepsNvccBusyTimesOut) {
  if (!nvcc_present()) GTEST_SKIP() << "no nvcc";
  const TemporaryDirectory directory;
  const ScratchPlace scratch(directory);
  StaticTriageOptions options;
  // 2^40 different types
  options.files = {directory.write("endless.cu",
                                   "template <int N, class... T> struct Tree { Tree<N - 1, T..., int> a; Tree<N - 1, T..., "
                                   "char> b; };\ntemplate <class... T> struct Tree<0, T...> {};\n"
                                   "__global__ void k(int* p) { *p = sizeof(Tree<40>); }\n")};
  options.architectures = {"89"};
  options.timeout_seconds = 2.0;
  const Outcome outcome = run(options, directory);
  EXPECT_EQ(outcome.code, kTimeoutOrCrash) << outcome.report.dump(2);
  EXPECT_TRUE(is_empty(scratch.path()));
}

TEST(StaticTriageRun, RelocatableDeviceCodeMayCallElsewhere) {
  if (!nvcc_present()) GTEST_SKIP() << "no nvcc";
  const TemporaryDirectory directory;
  StaticTriageOptions options;
  options.files = {directory.write("a.cu", "__device__ float f(float);\n__global__ void k(float* p) { *p = f(*p); }\n")};
  options.architectures = {"89"};
  EXPECT_EQ(run(options, directory).code, kSomeWillNotRun);
  options.nvcc_flags = {"-rdc=true"};
  EXPECT_EQ(run(options, directory).code, kAllCompile);
}

}  // namespace
