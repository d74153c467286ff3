// The whole of static triage: checks the request, compiles in parallel, judges, reports.
#include "verdict/static_triage.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "verdict/static/judge.h"
#include "verdict/static/process.h"
#include "verdict/static/render.h"
#include "verdict/terminal.h"

namespace triage::static_triage {
namespace {

namespace fs = std::filesystem;

void complain(const std::string& sentence) { fmt::print(stderr, "triage verdict: {}\n", sentence); }

// ---- the request ----

// What is wrong with a source file as an argument; empty if nothing is.
std::string file_problem(const std::string& path) {
  if (path.empty()) return "an empty file name";
  // nvcc hands paths to a shell between double quotes.
  if (const std::string hazard = shell_hazard(path, "$`\"\\"); !hazard.empty()) return "the file name " + hazard + ": rename it";
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return fmt::format("'{}': {}", path, std::strerror(errno));
  if (S_ISDIR(info.st_mode)) return fmt::format("'{0}' is a directory: name the sources in it, {0}/*.cu", path);
  if (!S_ISREG(info.st_mode)) return fmt::format("'{}' is no regular file", path);
  if (access(path.c_str(), R_OK) != 0) return fmt::format("'{}': {}", path, std::strerror(errno));
  if (info.st_size == 0) return fmt::format("'{}' is empty: there is no kernel to judge", path);
  return "";
}

std::vector<Target> parse_targets(const std::vector<std::string>& texts, std::string* problem) {
  std::vector<Target> targets;
  for (const std::string& text : texts) {
    for (const std::string& part : split_arguments(text)) {
      const auto target = parse_target(part);
      if (!target) {
        *problem = fmt::format("--arch: '{}' is no architecture; accepted are compute capabilities such as 80, 8.9 or 90a, "
                               "separated by commas",
                               part);
        return {};
      }
      if (std::find(targets.begin(), targets.end(), *target) == targets.end()) targets.push_back(*target);
    }
  }
  if (targets.empty()) *problem = "--arch: no architecture is named";
  return targets;
}

// Every problem of the request; nothing is compiled if there is one.
std::vector<std::string> request_problems(const StaticTriageOptions& options) {
  std::vector<std::string> problems;
  if (options.files.empty()) problems.push_back("no source file is named");
  for (const std::string& file : options.files) {
    if (std::string problem = file_problem(file); !problem.empty()) problems.push_back(problem);
  }
  for (const std::string& directory : options.include_dirs) {
    if (const std::string hazard = shell_hazard(directory, "$`\"\\"); !hazard.empty()) {
      problems.push_back("-I: " + hazard);
    } else if (std::error_code error; !fs::is_directory(directory, error)) {
      problems.push_back(fmt::format("-I: '{}' is no directory", directory));
    }
  }
  for (const std::string& define : options.defines) {
    if (const std::string hazard = shell_hazard(define, "$`"); !hazard.empty()) problems.push_back("-D: " + hazard);
    if (define.empty() || !(std::isalpha(static_cast<unsigned char>(define[0])) || define[0] == '_')) {
      problems.push_back(fmt::format("-D: '{}' is no macro; accepted are NAME and NAME=VALUE", define));
    }
  }
  if (const std::string refused = refused_flag(options.nvcc_flags); !refused.empty()) problems.push_back(refused);
  const int standard = options.cpp_standard;
  if (standard != 0 && standard != 3 && standard != 11 && standard != 14 && standard != 17 && standard != 20 &&
      standard != 23) {
    problems.push_back(fmt::format("--std: {} is no C++ standard of nvcc; accepted are 11, 14, 17 and 20", standard));
  }
  if (!(options.timeout_seconds > 0) || options.timeout_seconds > 86400) {
    problems.push_back(fmt::format("--timeout: {} is out of range; accepted are seconds above 0, up to a day",
                                   options.timeout_seconds));
  }
  if (options.jobs < 0 || options.jobs > 1024) {
    problems.push_back(fmt::format("--jobs: {} is out of range; accepted are 1 to 1024", options.jobs));
  }
  return problems;
}

// ---- signals and temporary files ----

void on_signal(int) { request_stop(); }

// While it lives, Ctrl-C and the like end the compiles in place of the program, so that it can clean up.
class SignalGuard {
 public:
  SignalGuard() {
    clear_stop();
    struct sigaction action {};
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &action, &previous_[i]);
  }
  ~SignalGuard() {
    for (std::size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &previous_[i], nullptr);
  }
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction previous_[std::size(kSignals)] {};
};

class ScratchDirectory {
 public:
  explicit ScratchDirectory(std::string* problem) {
    std::vector<std::string> places;
    if (const char* named = std::getenv("TMPDIR"); named != nullptr && shell_hazard(named, "$`\"\\").empty()) {
      places.emplace_back(named);
    }
    places.emplace_back("/tmp");
    for (const std::string& place : places) {
      std::string pattern = place + "/triage-XXXXXX";
      if (mkdtemp(pattern.data()) != nullptr) {
        path_ = pattern;
        return;
      }
      *problem = fmt::format("no temporary directory in '{}': {}", place, std::strerror(errno));
    }
  }
  ~ScratchDirectory() {
    std::error_code error;
    if (!path_.empty()) fs::remove_all(path_, error);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// ---- compiling ----

struct FileJob {
  FileCompiles compiles;
  std::atomic<int> left{0};
};

// Runs `count` tasks on `workers` threads; each task may add one more to the end of the queue.
class Workers {
 public:
  using Task = std::function<void()>;
  void add(Task task) {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    ++open_;
    changed_.notify_one();
  }
  void run(int workers) {
    std::vector<std::thread> threads;
    for (int i = 0; i < workers; ++i) threads.emplace_back([this] { work(); });
    for (std::thread& thread : threads) thread.join();
  }

 private:
  void work() {
    for (;;) {
      Task task;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return !tasks_.empty() || open_ == 0; });
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
      const std::lock_guard lock(mutex_);
      if (--open_ == 0) changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  int open_ = 0;
};

CompileSettings make_settings(const StaticTriageOptions& options, const Toolchain& toolchain, const std::string& scratch) {
  CompileSettings settings;
  settings.toolchain = &toolchain;
  settings.timeout_seconds = options.timeout_seconds;
  settings.scratch = scratch;
  settings.user_flags = options.nvcc_flags;
  for (const std::string& directory : options.include_dirs) {
    settings.front_end_flags.push_back("-I");
    settings.front_end_flags.push_back(directory);
  }
  for (const std::string& define : options.defines) settings.front_end_flags.push_back("-D" + define);
  if (options.cpp_standard != 0) {
    settings.front_end_flags.push_back(fmt::format("-std=c++{:02}", options.cpp_standard));
  }
  return settings;
}

void compile_all(const StaticTriageOptions& options, const std::vector<Target>& targets, const Toolchain& toolchain,
                 const std::string& scratch, std::deque<FileJob>& jobs) {
  const CompileSettings settings = make_settings(options, toolchain, scratch);
  verdict::Progress progress(static_cast<int>(options.files.size()), false);
  std::mutex progress_mutex;
  std::atomic<int> serial{0};
  Workers workers;

  const auto finish_file = [&](std::size_t f) {
    int good = 0;
    for (const CompileResult& result : jobs[f].compiles.targets) good += result.state == CompileState::ok;
    const std::lock_guard lock(progress_mutex);
    if (stop_requested()) return;
    progress.end(fmt::format("{}: compiled for {} of {} architectures", options.files[f], good, targets.size()));
  };
  for (std::size_t f = 0; f < options.files.size(); ++f) {
    jobs.emplace_back();
    jobs[f].compiles.targets.resize(targets.size());
    jobs[f].left = static_cast<int>(targets.size());
  }
  for (std::size_t f = 0; f < options.files.size(); ++f) {
    for (std::size_t t = 0; t < targets.size(); ++t) {
      workers.add([&, f, t] {
        FileJob& job = jobs[f];
        CompileResult& result = job.compiles.targets[t];
        {
          const std::lock_guard lock(progress_mutex);
          if (!stop_requested()) progress.begin(fmt::format("{} for {}", options.files[f], targets[t].name()));
        }
        result.target = targets[t];
        if (!toolchain.knows(targets[t].sm)) {
          result.state = CompileState::unknown_target;
        } else {
          result = compile_for_target(options.files[f], targets[t], settings, serial++);
        }
        if (--job.left > 0) return;
        // The host side is the same for every target: once, if a front end came through.
        const auto through = std::find_if(job.compiles.targets.begin(), job.compiles.targets.end(), [](const auto& r) {
          return r.state == CompileState::ok || r.state == CompileState::assembler_failed;
        });
        if (through == job.compiles.targets.end() || stop_requested()) {
          finish_file(f);
          return;
        }
        workers.add([&, f, target = through->target] {
          jobs[f].compiles.host.push_back(compile_host(options.files[f], target, settings, serial++));
          finish_file(f);
        });
      });
    }
  }
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  workers.run(std::min<int>(options.jobs > 0 ? options.jobs : cores, static_cast<int>(options.files.size() * targets.size())));
}

// ---- the report ----

std::string render(const Verdict& verdict, ReportFormat format, bool colour) {
  switch (format) {
    case ReportFormat::text: return render_text(verdict, colour);
    case ReportFormat::markdown: return render_markdown(verdict);
    case ReportFormat::html: return render_html(verdict);
    case ReportFormat::json:
      // Sources may hold bytes that are no UTF-8.
      return render_json(verdict).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
  return "";
}

// A file appears whole or not at all.
bool write_output(const std::string& text, const std::string& path) {
  if (path.empty()) {
    const bool good = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
    if (!good) complain(fmt::format("standard output: {}", std::strerror(errno)));
    return good;
  }
  const std::string temporary = fmt::format("{}.{}.partial", path, getpid());
  bool good = false;
  {
    std::ofstream out(temporary, std::ios::binary);
    out << text;
    out.flush();
    good = out.good();
  }
  if (!good || std::rename(temporary.c_str(), path.c_str()) != 0) {
    complain(fmt::format("cannot write '{}': {}", path, std::strerror(errno)));
    std::remove(temporary.c_str());
    return false;
  }
  return true;
}

}  // namespace

int run_static_triage(const StaticTriageOptions& options) {
  std::vector<std::string> problems = request_problems(options);
  std::string target_problem;
  const bool by_name = !options.architectures.empty();
  const std::vector<Target> targets =
      parse_targets(by_name ? options.architectures : std::vector<std::string>{kDefaultArchitectures}, &target_problem);
  if (!target_problem.empty()) problems.push_back(target_problem);
  for (const std::string& problem : problems) complain(problem + ".");
  if (!problems.empty()) return kUsage;

  const SignalGuard signals;
  std::string problem;
  const auto toolchain = find_toolchain(options.nvcc, &problem);
  if (stop_requested()) return kInterrupted;
  if (!toolchain) {
    complain(problem);
    return kNoCompiler;
  }
  for (const std::string& warning : toolchain->warnings) complain(warning + ".");
  const ScratchDirectory scratch(&problem);
  if (scratch.path().empty()) {
    complain(problem + ".");
    return kNoCompiler;
  }

  std::deque<FileJob> jobs;
  compile_all(options, targets, *toolchain, scratch.path(), jobs);
  if (stop_requested()) {
    complain("interrupted; no report is written.");
    return kInterrupted;
  }

  Verdict verdict;
  verdict.nvcc = toolchain->nvcc;
  verdict.nvcc_version = toolchain->version;
  verdict.targets = targets;
  const std::vector<KernelReport> ours = kernel_reports(DLDevice{kDLCPU, 0});
  for (std::size_t f = 0; f < options.files.size(); ++f) {
    try {
      SourceSet sources(options.files[f], options.include_dirs, options.defines);
      verdict.files.push_back(judge_file(options.files[f], jobs[f].compiles, sources, ours));
    } catch (const std::runtime_error& error) {  // the file went away meanwhile
      complain(std::string(error.what()) + ".");
      return kUsage;
    }
  }
  for (std::size_t t = 0; t < targets.size(); ++t) {
    const bool unknown = std::all_of(verdict.files.begin(), verdict.files.end(), [&](const FileVerdict& file) {
      return file.cells[t].state == CellState::unknown_target;
    });
    if (unknown) verdict.unknown_targets.push_back(targets[t].name());
  }
  verdict.exit_code = exit_code_of(verdict, by_name);

  std::vector<ReportOutput> outputs = options.outputs;
  if (outputs.empty()) outputs.push_back({});
  bool written = true;
  for (const ReportOutput& output : outputs) {
    const bool colour = output.path.empty() && verdict::colour_on(STDOUT_FILENO);
    written = write_output(render(verdict, output.format, colour), output.path) && written;
  }
  return written ? verdict.exit_code : static_cast<int>(kUsage);
}

}  // namespace triage::static_triage
