// The rules of the house that a compiler does not check: who may include whom, and that inline assembly stands under
// src/ptx alone. Each rule is also tried on a small tree with one planted violation, so that a checker that has gone
// blind fails here.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

// What each layer may include besides itself and the C++ library. Arrows of the design:
// ptx <- device <- {sparse_gemm, attention} <- registry <- api <- verdict; cpu and io see the public headers. What
// is not listed (tests, examples) is free.
const std::map<std::string, std::set<std::string>> kMayInclude = {
    {"include", {}},
    {"ptx", {}},
    {"device", {"include", "ptx"}},
    {"sparse_gemm", {"include", "ptx", "device"}},
    {"attention", {"include", "ptx", "device"}},
    {"cpu", {"include"}},
    {"io", {"include"}},
    {"registry", {"include", "device", "sparse_gemm", "attention", "cpu"}},
    {"api", {"include", "device", "sparse_gemm", "attention", "cpu", "registry"}},
    {"verdict", {"include", "device", "cpu", "registry", "api", "io", "bench"}},
};

// Headers of plain structs that the kernels themselves need: the shape of a registry row, and what a row is given.
const std::set<std::string> kRowHeaders = {"src/registry/kernel.h", "src/registry/attention_kernel.h",
                                           "src/registry/device.h"};
const std::set<std::string> kScheduleHeaders = {"src/device/schedule.h"};

std::string layer_of(const std::string& path) {
  const std::size_t begin = path.rfind("src/", 0) == 0 ? 4 : 0;
  return path.substr(begin, path.find('/', begin) - begin);
}

bool may_include(const std::string& from, const std::string& to) {
  const std::string layer = layer_of(from), target = layer_of(to);
  if (layer == target) return true;
  const bool kernel_layer = layer == "sparse_gemm" || layer == "attention" || layer == "cpu";
  if (kernel_layer && kRowHeaders.count(to)) return true;
  if (layer == "cpu" && kScheduleHeaders.count(to)) return true;
  const auto rule = kMayInclude.find(layer);
  return rule != kMayInclude.end() && rule->second.count(target);
}

std::string family_of(const std::string& path) {  // "sm90" for src/sparse_gemm/sm90_spmm.cu
  static const std::regex kPattern("src/(?:sparse_gemm|attention)/(sm[0-9]+)_.*");
  std::smatch match;
  return std::regex_match(path, match, kPattern) ? match[1].str() : "";
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The code without comments and without the inside of string and character literals.
std::string code_only(const std::string& text) {
  std::string code;
  for (std::size_t i = 0; i < text.size();) {
    if (text.compare(i, 2, "//") == 0) {
      i = std::min(text.find('\n', i), text.size());
    } else if (text.compare(i, 2, "/*") == 0) {
      const std::size_t end = text.find("*/", i + 2);
      i = end == std::string::npos ? text.size() : end + 2;
      code += ' ';
    } else if (text.compare(i, 2, "R\"") == 0 && text.find('(', i) != std::string::npos) {
      const std::size_t open = text.find('(', i);
      const std::string close = ")" + text.substr(i + 2, open - i - 2) + "\"";
      const std::size_t end = text.find(close, open);
      i = end == std::string::npos ? text.size() : end + close.size();
      code += "\"\"";
    } else if (text[i] == '\'' && i > 0 && std::isdigit(static_cast<unsigned char>(text[i - 1]))) {
      ++i;  // a digit separator
    } else if (text[i] == '"' || text[i] == '\'') {
      const char quote = text[i++];
      while (i < text.size() && text[i] != quote && text[i] != '\n') i += text[i] == '\\' ? 2 : 1;
      ++i;
      code += quote;
      code += quote;
    } else {
      code += text[i++];
    }
  }
  return code;
}

// Repository path of what `include` names in `from`; empty for headers that are not the project's.
std::string resolve(const fs::path& root, const std::string& from, const std::string& include, bool quoted) {
  for (const char* base : {"src/", "include/", ""})
    if (fs::is_regular_file(root / (base + include))) return base + include;
  const fs::path sibling = fs::path(from).parent_path() / include;
  if (quoted && fs::is_regular_file(root / sibling)) return sibling.lexically_normal().generic_string();
  return "";
}

void check_file(const fs::path& root, const std::string& path, std::vector<std::string>& violations) {
  const std::string text = read(root / path);
  const std::string layer = layer_of(path);
  const bool library = path.rfind("src/", 0) == 0 || layer == "include";

  // What `triage verdict FILE.cu` is tried on is a user's code, not ours.
  const bool specimen = path.rfind("tests/static/sources/", 0) == 0;
  static const std::regex kAssembly(R"(\b(asm|__asm|__asm__)\b)");
  if (layer != "ptx" && !specimen && std::regex_search(code_only(text), kAssembly))
    violations.push_back(path + ": asm outside of src/ptx");
  if (library && !kMayInclude.count(layer)) violations.push_back(path + ": no rule for the layer " + layer);

  static const std::regex kInclude(R"(^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"])");
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (line.find("include") == std::string::npos || !std::regex_search(line, match, kInclude)) continue;
    const std::string name = match[2];
    const bool quoted = match[1] == "\"";
    const std::string target = resolve(root, path, name, quoted);
    if (layer == "include" && std::regex_search(name, std::regex("cuda|torch|ATen|c10")))
      violations.push_back(path + ": a public header includes " + name);
    if (target.empty()) {
      if (quoted && library) violations.push_back(path + ": " + name + " is neither under src nor under include");
      continue;
    }
    // The source hashes (docs/building.md) look for quoted names under src and include alone.
    if (library && target != "src/" + name && target != "include/" + name)
      violations.push_back(path + ": " + name + " must be named from src or include");
    if (library && fs::exists(root / "src" / name) && fs::exists(root / "include" / name))
      violations.push_back(path + ": " + name + " stands under src and under include");
    if (library && !quoted) violations.push_back(path + ": <" + name + "> is the project's and takes quotes");
    if (kMayInclude.count(layer) && !may_include(path, target))
      violations.push_back(path + " must not include " + target);
    const std::string family = family_of(path), other = family_of(target);
    if (!family.empty() && !other.empty() && family != other)
      violations.push_back(path + " must not include another architecture's " + target);
  }
}

std::vector<std::string> find_violations(const fs::path& root) {
  static const std::set<std::string> kExtensions = {".h", ".cuh", ".cpp", ".cu", ".inc", ".inl"};
  std::vector<std::string> paths;
  for (const char* folder : {"include", "src", "verdict", "python", "bench", "examples", "tests"}) {
    if (!fs::is_directory(root / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / folder))
      if (entry.is_regular_file() && kExtensions.count(entry.path().extension().string()))
        paths.push_back(fs::relative(entry.path(), root).generic_string());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> violations;
  for (const std::string& path : paths) check_file(root, path, violations);
  return violations;
}

// A tree on disk that is gone at the end of the test.
class SmallTree {
 public:
  explicit SmallTree(const std::map<std::string, std::string>& files) {
    std::string name = (fs::temp_directory_path() / "triage-layering-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
    root_ = name;
    for (const auto& [path, text] : files) {
      fs::create_directories((root_ / path).parent_path());
      std::ofstream(root_ / path) << text;
    }
  }
  ~SmallTree() {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }
  const fs::path& root() const { return root_; }

 private:
  fs::path root_;
};

const std::map<std::string, std::string> kGoodTree = {
    {"include/triage/types.h", "#include <cstdint>\n"},
    {"src/ptx/mma.h", "inline void mma() { asm volatile(\"\"); }\n"},
    {"src/device/schedule.h", "#include \"triage/types.h\"\n#include \"ptx/mma.h\"\n"},
    {"src/device/memory.h", ""},
    {"src/registry/kernel.h", "#include \"device/schedule.h\"\n"},
    {"src/registry/registry.h", "#include \"cpu/oracle.h\"\n#include \"sparse_gemm/sm80_spmm.h\"\n"},
    {"src/cpu/oracle.h", "#include \"registry/kernel.h\"\n#include \"device/schedule.h\"\n"},
    {"src/sparse_gemm/sm80_spmm.h", "#include \"registry/kernel.h\"\n// no asm \"here\", 1'000 times\n"},
    {"src/sparse_gemm/sm90_spmm.h", "#include \"device/schedule.h\"\n"},
    {"src/attention/sm90_forward.h", ""},
    {"src/api/spmm.h", "#include \"registry/registry.h\"\n"},
    {"verdict/report.h",
     "#include \"api/spmm.h\"\nconst char* kText = \"asm\";\nconst char* kRaw = R\"x(\"\nasm(\")x\";\n"},
};

struct Planted {
  const char* path;
  const char* line;
  const char* complaint;
};

// One planted violation each: the file gets the line, and the complaint must be among those found.
const Planted kPlanted[] = {
    {"src/ptx/mma.h", "#include \"device/memory.h\"", "src/ptx/mma.h must not include src/device/memory.h"},
    {"src/device/memory.h", "#include \"sparse_gemm/sm80_spmm.h\"",
     "src/device/memory.h must not include src/sparse_gemm/sm80_spmm.h"},
    {"src/device/memory.h", "#include \"registry/kernel.h\"",
     "src/device/memory.h must not include src/registry/kernel.h"},
    {"src/sparse_gemm/sm90_spmm.h", "#include \"attention/sm90_forward.h\"",
     "src/sparse_gemm/sm90_spmm.h must not include src/attention/sm90_forward.h"},
    {"src/attention/sm90_forward.h", "#include \"sparse_gemm/sm90_spmm.h\"",
     "src/attention/sm90_forward.h must not include src/sparse_gemm/sm90_spmm.h"},
    {"src/sparse_gemm/sm90_spmm.h", "#include \"sparse_gemm/sm80_spmm.h\"",
     "src/sparse_gemm/sm90_spmm.h must not include another architecture's src/sparse_gemm/sm80_spmm.h"},
    {"src/sparse_gemm/sm80_spmm.h", "#include \"registry/registry.h\"",
     "src/sparse_gemm/sm80_spmm.h must not include src/registry/registry.h"},
    {"src/registry/registry.h", "#include \"api/spmm.h\"", "src/registry/registry.h must not include src/api/spmm.h"},
    {"src/api/spmm.h", "#include \"verdict/report.h\"",
     "src/api/spmm.h: verdict/report.h must be named from src or include"},
    {"src/cpu/oracle.h", "#include \"device/memory.h\"", "src/cpu/oracle.h must not include src/device/memory.h"},
    {"include/triage/types.h", "#include \"device/schedule.h\"",
     "include/triage/types.h must not include src/device/schedule.h"},
    {"include/triage/types.h", "#include <cuda_runtime.h>",
     "include/triage/types.h: a public header includes cuda_runtime.h"},
    {"src/api/spmm.h", "#include <triage/types.h>",
     "src/api/spmm.h: <triage/types.h> is the project's and takes quotes"},
    {"src/api/spmm.h", "#include \"spmm.h\"", "src/api/spmm.h: spmm.h must be named from src or include"},
    {"src/api/spmm.h", "#include \"gone.h\"", "src/api/spmm.h: gone.h is neither under src nor under include"},
    {"src/sparse_gemm/sm90_spmm.h", "void f() { asm(\"nop\"); }",
     "src/sparse_gemm/sm90_spmm.h: asm outside of src/ptx"},
    {"src/device/memory.h", "/* x */ __asm__ volatile (\"nop\");", "src/device/memory.h: asm outside of src/ptx"},
    {"verdict/report.h", "inline void f() { asm volatile(\"\"); }", "verdict/report.h: asm outside of src/ptx"},
    {"verdict/report.h", "const char* kMore = R\"(\")\"; inline void f() { asm(\"nop\"); }",
     "verdict/report.h: asm outside of src/ptx"},
    {"src/misc/new.h", "", "src/misc/new.h: no rule for the layer misc"},
};

TEST(Layering, TheCheckoutKeepsTheRules) {
  ASSERT_TRUE(fs::exists(fs::path(TRIAGE_SOURCE_DIR) / "include/triage/types.h"));
  for (const std::string& violation : find_violations(TRIAGE_SOURCE_DIR)) ADD_FAILURE() << violation;
}

TEST(Layering, AGoodTreePasses) {
  EXPECT_EQ(find_violations(SmallTree(kGoodTree).root()), std::vector<std::string>{});
}

TEST(Layering, EveryPlantedViolationIsNamed) {
  for (const Planted& planted : kPlanted) {
    auto files = kGoodTree;
    files[planted.path] += std::string(planted.line) + "\n";
    const auto found = find_violations(SmallTree(files).root());
    EXPECT_NE(std::find(found.begin(), found.end(), planted.complaint), found.end())
        << planted.line << " in " << planted.path << " went unnoticed, or was named otherwise: "
        << (found.empty() ? "nothing found" : found[0]);
  }
}

}  // namespace
