#include "verdict/external_tool.h"

#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "verdict/static/process.h"

namespace triage::verdict {
namespace {

namespace fs = std::filesystem;
using static_triage::ProcessOptions;
using static_triage::ProcessOutcome;
using static_triage::ProcessResult;

constexpr double kVersionSeconds = 30;
constexpr const char* kJob = "/job.json";
constexpr const char* kAnswer = "/answer.json";
constexpr const char* kLog = "/tool.log";

/// What a signal handler has to clean up after a tool under way: its process group and its temporary files.
struct UnderWay {
  std::atomic<bool> taken{false};
  std::atomic<int> group{0};
  char files[3][256] = {};
  char folder[256] = "";
};
std::array<UnderWay, 64> under_way;

void end_tools() noexcept {
  for (UnderWay& slot : under_way) {
    if (!slot.taken) continue;
    if (const int group = slot.group; group > 0) ::kill(-group, SIGKILL);
    for (const auto& file : slot.files) ::unlink(file);
    ::rmdir(slot.folder);
  }
}

/// A new folder for one tool's files, gone with this object or with the process.
class ToolFolder {
 public:
  ToolFolder() {
    on_interrupt(end_tools);
    std::string name = (fs::temp_directory_path() / "triage-XXXXXX").string();
    if (name.size() + 32 > sizeof(UnderWay::folder)) throw std::runtime_error("TMPDIR is too long a path");
    for (UnderWay& slot : under_way) {
      bool free = false;
      if (slot.taken.compare_exchange_strong(free, true)) {
        slot_ = &slot;
        break;
      }
    }
    if (slot_ == nullptr) throw std::runtime_error("too many tools run at once");
    if (::mkdtemp(name.data()) == nullptr) {
      slot_->taken = false;
      throw std::runtime_error(fmt::format("no temporary folder {}: {}", name, std::strerror(errno)));
    }
    path_ = name;
    std::snprintf(slot_->folder, sizeof slot_->folder, "%s", name.c_str());
    int i = 0;
    for (const char* file : {kJob, kAnswer, kLog}) {
      std::snprintf(slot_->files[i], sizeof slot_->files[i], "%s%s", name.c_str(), file);
      ++i;
    }
  }
  ~ToolFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
    slot_->group = 0;
    slot_->taken = false;
  }
  ToolFolder(const ToolFolder&) = delete;
  ToolFolder& operator=(const ToolFolder&) = delete;

  std::string file(const char* name) const { return path_ + name; }
  void group_changed(int group) { slot_->group = group; }

 private:
  UnderWay* slot_ = nullptr;
  std::string path_;
};

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string environment_value(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

/// "Version 2025.3.1.0 (build ...)" -> "2025.3.1.0".
std::string version_in(const std::string& text) {
  const std::size_t word = text.find("ersion ");
  if (word == std::string::npos) return "";
  const std::size_t begin = text.find_first_of("0123456789", word);
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_first_not_of("0123456789.", begin) - begin);
}

std::string describe(const ProcessResult& process) {
  switch (process.outcome) {
    case ProcessOutcome::exited:
      return fmt::format("it exited with code {}", process.exit_code);
    case ProcessOutcome::signalled:
      return fmt::format("it was killed by signal {} ({})", process.signal, ::strsignal(process.signal));
    case ProcessOutcome::timed_out:
      return "it was stopped after its time limit";
    case ProcessOutcome::interrupted:
      return "it was interrupted";
    case ProcessOutcome::not_started:
      return "it could not be started";
  }
  return "";
}

}  // namespace

ExternalTool find_external_tool(const std::string& name) {
  std::vector<std::string> folders;
  std::stringstream search(environment_value("PATH"));
  for (std::string folder; std::getline(search, folder, ':');) folders.push_back(folder.empty() ? "." : folder);
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const std::string home = environment_value(variable); !home.empty()) folders.push_back(home + "/bin");
  }
  folders.push_back("/usr/local/cuda/bin");
  for (const std::string& folder : folders) {
    const std::string path = folder + "/" + name;
    std::error_code error;
    if (!fs::is_regular_file(path, error) || ::access(path.c_str(), X_OK) != 0) continue;
    ProcessOptions options;
    options.timeout_seconds = kVersionSeconds;
    return {path, version_in(static_triage::run_process({path, "--version"}, options).output)};
  }
  return {};
}

ToolRun run_under_tool(const std::function<std::vector<std::string>(const std::string& log)>& command, const Job& job,
                       const Environment& environment, double timeout_seconds) {
  ToolFolder folder;
  std::ofstream(folder.file(kJob)) << to_json(job).dump() << std::flush;
  std::vector<std::string> arguments = command(folder.file(kLog));
  for (const std::string& word : worker_program(job.user)) arguments.push_back(word);
  for (const std::string& word : {std::string(kWorkerCommand), folder.file(kJob), folder.file(kAnswer)}) {
    arguments.push_back(word);
  }
  ProcessOptions options;
  options.timeout_seconds = timeout_seconds;
  options.max_output = std::size_t{256} << 10;
  for (const auto& [name, value] : environment) options.environment.push_back(name + "=" + value);
  options.group_changed = [&](int group) { folder.group_changed(group); };
  const ProcessResult process = static_triage::run_process(arguments, options);

  ToolRun run;
  run.timed_out = process.outcome == ProcessOutcome::timed_out;
  run.interrupted = process.outcome == ProcessOutcome::interrupted;
  run.ended = describe(process);
  run.output = process.output;
  run.seconds = process.seconds;
  run.log = text_of(folder.file(kLog));
  const Json answer = Json::parse(text_of(folder.file(kAnswer)), nullptr, /*allow_exceptions=*/false);
  if (answer.is_discarded() || !answer.is_object()) return run;
  if (answer.contains("result")) run.result = answer.at("result");
  run.refusal = answer.value("refused", "");
  run.error = answer.value("error", "");
  return run;
}

std::string last_words_of(const std::string& text) {
  constexpr std::size_t kShown = 300;
  std::string words = text;
  while (!words.empty() && std::isspace(static_cast<unsigned char>(words.back()))) words.pop_back();
  if (words.size() > kShown) words = "..." + words.substr(words.size() - kShown);
  std::replace(words.begin(), words.end(), '\n', ' ');
  return words;
}

}  // namespace triage::verdict
