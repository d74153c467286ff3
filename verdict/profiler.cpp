#include "verdict/profiler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "verdict/job_identity.h"
#include "verdict/profile_metrics.h"

namespace triage::verdict {
namespace {

/// A counter that a version of Nsight Compute or a GPU does not have makes it refuse everything: it is left out then.
constexpr int kMostUnknownCounters = 12;

/// One record of a CSV file: cells in quotes, quotes doubled.
std::vector<std::string> csv_cells(const std::string& line) {
  std::vector<std::string> cells{""};
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '"' && quoted && i + 1 < line.size() && line[i + 1] == '"') {
      cells.back() += '"';
      ++i;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      cells.emplace_back();
    } else if (c != '\r') {
      cells.back() += c;
    }
  }
  return cells;
}

/// "1,234.5" -> 1234.5; false for "n/a" and the like.
bool number_in(std::string text, double& value) {
  text.erase(std::remove(text.begin(), text.end(), ','), text.end());
  char* end = nullptr;
  value = std::strtod(text.c_str(), &end);
  return end != text.c_str() && *end == '\0';
}

/// What it is in the base unit, if the profiler scaled it all the same.
double unit_factor(const std::string& unit) {
  const std::string word = unit.substr(0, unit.find('/'));
  static const std::map<std::string, double> factors{{"us", 1e3},    {"usecond", 1e3}, {"ms", 1e6},    {"msecond", 1e6},
                                                     {"s", 1e9},     {"second", 1e9},  {"Kbyte", 1e3}, {"Mbyte", 1e6},
                                                     {"Gbyte", 1e9}, {"Tbyte", 1e12}};
  const auto found = factors.find(word);
  return found == factors.end() ? 1 : found->second;
}

/// The name in "==ERROR== Failed to find metric regex:^NAME(...)", or "".
std::string unknown_counter(const std::string& log) {
  constexpr const char* kStart = "Failed to find metric ";
  const std::size_t begin = log.find(kStart);
  if (begin == std::string::npos) return "";
  std::string name = log.substr(begin + std::string(kStart).size(), 200);
  if (name.rfind("regex:", 0) == 0) name.erase(0, 6);
  name.erase(std::remove(name.begin(), name.end(), '\\'), name.end());
  const std::size_t first = name.find_first_not_of("^(");
  if (first == std::string::npos) return "";
  return name.substr(
      first, name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", first) - first);
}

std::string line_with(const std::string& text, const char* mark) {
  const std::size_t begin = text.find(mark);
  return begin == std::string::npos ? "" : text.substr(begin, text.find('\n', begin) - begin);
}

std::vector<std::string> all_counters() {
  std::vector<std::string> counters;
  for (const ProfileMetric& metric : profile_metrics()) counters.push_back(metric.counter);
  for (const StallReason& reason : stall_reasons()) counters.push_back(stall_counter(reason.name));
  return counters;
}

}  // namespace

std::vector<ProfiledLaunch> read_profiler_csv(const std::string& text) {
  std::vector<std::string> header, units;
  std::vector<ProfiledLaunch> launches;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] != '"') continue;  // "==PROF== ..." and what a library printed
    const std::vector<std::string> cells = csv_cells(line);
    if (header.empty()) {
      if (cells[0] == "ID") header = cells;
      continue;
    }
    if (cells.size() != header.size()) continue;
    if (units.empty() && cells[0].empty()) {
      units = cells;
      continue;
    }
    const auto cell = [&](const std::string& column) -> std::string {
      const auto found = std::find(header.begin(), header.end(), column);
      return found == header.end() ? "" : cells[static_cast<std::size_t>(found - header.begin())];
    };
    const auto number = [&](const std::string& column, double& value) {
      const auto found = std::find(header.begin(), header.end(), column);
      if (found == header.end()) return false;
      const auto at = static_cast<std::size_t>(found - header.begin());
      if (!number_in(cells[at], value)) return false;
      if (!units.empty()) value *= unit_factor(units[at]);
      return true;
    };
    ProfiledLaunch launch;
    launch.name = cell("Kernel Name");
    launch.grid = cell("Grid Size");
    launch.block = cell("Block Size");
    double value = 0;
    for (const ProfileMetric& metric : profile_metrics()) {
      if (!number(metric.counter, value)) continue;
      launch.metrics.emplace_back(metric.name, std::string(metric.name) == "time_us" ? value * 1e-3 : value);
    }
    for (const StallReason& reason : stall_reasons()) {
      if (number(stall_counter(reason.name), value) && value > 0) launch.stalls.emplace_back(reason.name, value);
    }
    std::stable_sort(launch.stalls.begin(), launch.stalls.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    launches.push_back(std::move(launch));
  }
  if (header.empty()) throw std::runtime_error("the profiler printed no table");
  return launches;
}

ProfileAnswer profile(const ExternalTool& ncu, const Job& job, const Environment& environment, double timeout_seconds) {
  static std::vector<std::string> counters = all_counters();  // what one run refused, the next does not ask for
  ToolRun run;
  for (int attempt = 0; attempt <= kMostUnknownCounters; ++attempt) {
    const auto command = [&](const std::string& log) {
      return std::vector<std::string>{ncu.path,        "--clock-control",
                                      "none",          "--profile-from-start",
                                      "off",           "--target-processes",
                                      "all",           "--csv",
                                      "--page",        "raw",
                                      "--print-units", "base",
                                      "--metrics",     fmt::format("{}", fmt::join(counters, ",")),
                                      "--log-file",    log};
    };
    run = run_under_tool(command, job, environment, timeout_seconds);
    const std::string unknown = unknown_counter(run.log + run.output);
    if (unknown.empty()) break;
    const auto kept = std::remove_if(counters.begin(), counters.end(), [&](const std::string& counter) {
      return counter.substr(0, counter.find('.')) == unknown;
    });
    if (kept == counters.end()) break;
    counters.erase(kept, counters.end());
  }

  ProfileAnswer answer;
  const std::string said = run.log + run.output;
  if (said.find("ERR_NVGPUCTRPERM") != std::string::npos) {
    answer.unavailable =
        "there is no permission to read the GPU's performance counters (ERR_NVGPUCTRPERM): run as root, or "
        "let the driver allow it: https://developer.nvidia.com/ERR_NVGPUCTRPERM";
    return answer;
  }
  if (!run.refusal.empty()) {
    answer.refusal = run.refusal;
    return answer;
  }
  ReceiptProfile result;
  if (run.result.is_object()) {
    result = profile_from_json(run.result);
  } else {
    take_identity(result, job);
  }
  result.version = ncu.version;
  result.date = today();
  const auto fail = [&](Outcome outcome, const std::string& failure) {
    result.outcome = outcome;
    result.failure = failure;
    answer.profile = result;
    return answer;
  };
  if (run.timed_out) {
    return fail(Outcome::hung, fmt::format("no answer within {:g} s (--timeout); it was stopped", timeout_seconds));
  }
  if (!run.error.empty()) return fail(Outcome::crashed, run.error);
  const std::string error = line_with(said, "==ERROR==");
  try {
    result.launches = read_profiler_csv(run.log);
  } catch (const std::exception& problem) {
    return fail(Outcome::crashed, !error.empty() ? error
                                                 : fmt::format("{}; {}; it had said: {}", problem.what(), run.ended,
                                                               last_words_of(said)));
  }
  if (result.launches.empty() || run.result.is_null()) {
    return fail(Outcome::crashed, !error.empty() ? error
                                  : result.launches.empty()
                                      ? "the profiler saw no kernel"
                                      : fmt::format("{}; it had said: {}", run.ended, last_words_of(said)));
  }
  result.limited_by = limiting_sentence(*longest_launch(result));
  answer.profile = result;
  return answer;
}

}  // namespace triage::verdict
