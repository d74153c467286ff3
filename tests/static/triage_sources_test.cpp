// Static triage end to end: every source of tests/static/sources against what its first lines expect.
//   // EXPECT 80 86: <beginning of the file's matrix cell>
//   // KERNEL name 80 86: <beginning of the kernel's cell>
//   // CAUSE <kind> <feature or -> line <n> on 80 86 [everywhere] [unreached] [says "<words of found, why or fix>"]
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "static/static_test.h"
#include "verdict/static_triage.h"

namespace {

namespace fs = std::filesystem;
using namespace triage::static_triage;
using Json = nlohmann::json;

struct CellExpectation {
  std::string kernel;  // empty: the file
  std::vector<std::string> targets;
  std::string text;
};

struct CauseExpectation {
  std::string kind, feature, words;
  int line = 0;
  std::vector<std::string> targets;
  bool everywhere = false, unreached = false;
};

struct Expectations {
  std::vector<CellExpectation> cells;
  std::vector<CauseExpectation> causes;
  std::string targets;  // all of them, for --arch
  std::set<std::string> failing;
};

CellExpectation read_cell(std::istringstream& line) {
  CellExpectation cell;
  std::string word;
  while (line >> word) {
    const bool last = word.back() == ':';
    cell.targets.push_back(last ? word.substr(0, word.size() - 1) : word);
    if (last) break;
  }
  std::getline(line >> std::ws, cell.text);
  return cell;
}

CauseExpectation read_cause(std::istringstream& line) {
  CauseExpectation cause;
  std::string word;
  line >> cause.kind >> cause.feature >> word >> cause.line >> word;
  if (cause.feature == "-") cause.feature.clear();
  while (line >> word) {
    if (word == "everywhere") cause.everywhere = true;
    else if (word == "unreached") cause.unreached = true;
    else if (word == "says") {
      std::getline(line >> std::ws, cause.words);
      cause.words = cause.words.substr(1, cause.words.rfind('"') - 1);
    } else {
      cause.targets.push_back(word);
    }
  }
  std::sort(cause.targets.begin(), cause.targets.end());
  return cause;
}

Expectations read_expectations(const fs::path& source) {
  Expectations result;
  std::ifstream in(source);
  for (std::string text; std::getline(in, text);) {
    std::istringstream line(text);
    std::string slashes, keyword;
    line >> slashes >> keyword;
    if (slashes != "//") continue;
    if (keyword == "EXPECT") {
      result.cells.push_back(read_cell(line));
      for (const std::string& target : result.cells.back().targets) {
        result.targets += (result.targets.empty() ? "" : ",") + target;
        if (result.cells.back().text.rfind("COMPILES", 0) != 0 || result.cells.back().text.rfind("COMPILES TO", 0) == 0) {
          result.failing.insert(target);
        }
      }
    } else if (keyword == "KERNEL") {
      std::string kernel;
      line >> kernel;
      result.cells.push_back(read_cell(line));
      result.cells.back().kernel = kernel;
    } else if (keyword == "CAUSE") {
      result.causes.push_back(read_cause(line));
    }
  }
  return result;
}

std::string cell_in(const Json& cells, const std::string& target) {
  for (const Json& cell : cells) {
    if (cell["target"] == target) return cell["text"];
  }
  return "(no cell)";
}

bool says(const Json& cause, const std::string& words) {
  for (const char* field : {"found", "why", "fix"}) {
    if (cause[field].get<std::string>().find(words) != std::string::npos) return true;
  }
  return false;
}

std::vector<fs::path> sources() {
  std::vector<fs::path> result;
  for (const auto& entry : fs::directory_iterator(fs::path(TRIAGE_SOURCE_DIR) / "tests/static/sources")) {
    if (entry.path().extension() == ".cu") result.push_back(entry.path());
  }
  std::sort(result.begin(), result.end());
  return result;
}

class TriageSources : public testing::TestWithParam<fs::path> {};

TEST_P(TriageSources, SayWhatTheirHeaderExpects) {
  if (!nvcc_present()) GTEST_SKIP() << "no nvcc: static triage of the sources is not tested";
  const Expectations expected = read_expectations(GetParam());
  ASSERT_FALSE(expected.cells.empty()) << "the source expects nothing";

  const TemporaryDirectory directory;
  StaticTriageOptions options;
  options.files = {GetParam().string()};
  options.architectures = {expected.targets};
  options.outputs = {{ReportFormat::json, directory.path() + "/report.json"}};
  const int code = run_static_triage(options);
  EXPECT_EQ(code, expected.failing.empty() ? kAllCompile : kSomeWillNotRun);

  std::ifstream in(directory.path() + "/report.json");
  const Json report = Json::parse(in);
  ASSERT_EQ(report["files"].size(), 1U);
  const Json& file = report["files"][0];
  for (const CellExpectation& cell : expected.cells) {
    const Json* cells = cell.kernel.empty() ? &file["matrix"] : nullptr;
    for (const Json& kernel : file["kernels"]) {
      if (!cell.kernel.empty() && kernel["name"] == cell.kernel) cells = &kernel["targets"];
    }
    ASSERT_NE(cells, nullptr) << "no kernel " << cell.kernel;
    for (const std::string& target : cell.targets) {
      const std::string found = cell_in(*cells, target);
      // "COMPILES" means just that; longer texts are beginnings.
      const bool same = cell.text == "COMPILES" ? found == cell.text : found.rfind(cell.text, 0) == 0;
      EXPECT_TRUE(same) << cell.kernel << " on " << target << ": expected " << cell.text << ", found " << found;
    }
  }
  std::vector<bool> matched(file["causes"].size());
  for (const CauseExpectation& cause : expected.causes) {
    bool found = false;
    for (std::size_t i = 0; i < matched.size() && !found; ++i) {
      const Json& candidate = file["causes"][i];
      std::vector<std::string> targets = candidate["targets"];
      std::sort(targets.begin(), targets.end());
      found = !matched[i] && candidate["kind"] == cause.kind && candidate["feature"] == cause.feature &&
              candidate["where"]["line"] == cause.line && targets == cause.targets &&
              candidate["everywhere"] == cause.everywhere && candidate["read_in_source_only"] == cause.unreached &&
              says(candidate, cause.words);
      matched[i] = matched[i] || found;
    }
    EXPECT_TRUE(found) << "no cause " << cause.kind << " " << cause.feature << " at line " << cause.line << " among\n"
                       << file["causes"].dump(2);
  }
  // Nothing is made up: what fails must be expected.
  for (std::size_t i = 0; i < matched.size(); ++i) {
    const Json& cause = file["causes"][i];
    if (cause["severity"] != "fails") continue;
    const bool of_expected_kind = std::any_of(expected.causes.begin(), expected.causes.end(), [&](const auto& e) {
      return e.kind == cause["kind"] && e.feature == cause["feature"];
    });
    const bool needs_target = file["matrix"].dump().find("needs_target") != std::string::npos;
    EXPECT_TRUE(matched[i] || of_expected_kind || needs_target) << "not expected: " << cause.dump(2);
    EXPECT_NE(cause["found"], "");
    EXPECT_NE(cause["why"], "");
    EXPECT_NE(cause["fix"], "");
  }
  // A way forward for every target that fails.
  std::set<std::string> led;
  for (const Json& path : file["path_forward"]) {
    if (!path["steps"].empty()) led.insert(path["target"].get<std::string>());
  }
  EXPECT_EQ(led, expected.failing);
}

INSTANTIATE_TEST_SUITE_P(All, TriageSources, testing::ValuesIn(sources()),
                         [](const auto& source) { return source.param.stem().string(); });

}  // namespace
