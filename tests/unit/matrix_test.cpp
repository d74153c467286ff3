// The support matrix: each state of a cell from hand-made receipts, and README's copy of it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "registry/attention_registry.h"
#include "registry/registry.h"
#include "verdict/matrix.h"

namespace triage::verdict {
namespace {

std::size_t column(const std::string& title) {
  for (std::size_t t = 0; t < matrix_targets().size(); ++t) {
    if (matrix_targets()[t].title == title) return t;
  }
  ADD_FAILURE() << "no column " << title;
  return 0;
}

MatrixKernel kernel(const std::vector<std::string>& unsupported = {}) {
  MatrixKernel row{"sm80_spmm_b64", "sparse_gemm.spmm", "sm80", "now", {}};
  row.refusals.assign(matrix_targets().size(), "");
  for (const std::string& title : unsupported) row.refusals[column(title)] = "it needs something else";
  return row;
}

Receipt receipt(const std::string& capability, const std::string& sha256, double tflops = 230) {
  Receipt result;
  result.device.name = "a device";
  result.device.compute_capability = capability;
  result.date = "2026-11-22";
  ReceiptCase entry;
  entry.kernel = "sm80_spmm_b64";
  entry.op = "sparse_gemm.spmm";
  entry.family = "sm80";
  entry.source_sha256 = sha256;
  entry.correct.ok = true;
  entry.time = ReceiptTime{1, 1, 1, 10};
  entry.tflops = tflops;
  entry.shape.name = "cube";
  result.cases.push_back(entry);
  return result;
}

std::string cell(const std::vector<Receipt>& receipts, const std::string& title,
                 const std::vector<std::string>& unsupported = {"cpu"}) {
  return make_matrix({kernel(unsupported)}, receipts).cells[0][column(title)].text();
}

TEST(Matrix, WithoutReceiptsACellCompilesOrIsUnsupported) {
  EXPECT_EQ(cell({}, "90"), "COMPILES");
  EXPECT_EQ(cell({}, "cpu"), "UNSUPPORTED");
}

TEST(Matrix, ACurrentReceiptValidatesWithItsFastestCase) {
  Receipt two = receipt("9.0", "now", 230);
  two.cases.push_back(two.cases[0]);
  two.cases[1].tflops = 541.6;
  EXPECT_EQ(cell({two}, "90"), "VALIDATED 542 TF/s");
  EXPECT_EQ(cell({receipt("9.0", "now", 0.03125)}, "90"), "VALIDATED 0.0312 TF/s");
}

TEST(Matrix, AnotherArchitectureIsPortableAndNamesWhere) {
  EXPECT_EQ(cell({receipt("9.0", "now")}, "80"), "PORTABLE (90)");
  EXPECT_EQ(cell({receipt("9.0", "now")}, "89"), "PORTABLE (90)");
  EXPECT_EQ(cell({receipt("9.0", "now")}, "cpu"), "UNSUPPORTED");
}

TEST(Matrix, ARunUnderTheSmallSharedMemoryIsNamed) {
  Receipt small = receipt("9.0", "now");
  small.cases[0].shared_memory_kb = 99;
  EXPECT_EQ(cell({small}, "89"), "PORTABLE (90, 99 KB)");
  EXPECT_EQ(cell({small, receipt("9.0", "now")}, "89"), "PORTABLE (90, 99 KB)");
  EXPECT_EQ(cell({small, receipt("9.0", "now")}, "80"), "PORTABLE (90)");
  // The small configuration says nothing about the one that the device would use itself.
  EXPECT_EQ(cell({small}, "90"), "COMPILES");
}

TEST(Matrix, AChangedSourceIsStaleThereAndProvesNothingElsewhere) {
  EXPECT_EQ(cell({receipt("9.0", "then")}, "90"), "STALE");
  EXPECT_EQ(cell({receipt("9.0", "then")}, "80"), "COMPILES");
  EXPECT_EQ(cell({receipt("9.0", "then"), receipt("9.0", "now")}, "90"), "VALIDATED 230 TF/s");
  EXPECT_EQ(cell({receipt("9.0", "")}, "90"), "STALE");
}

TEST(Matrix, AWrongOrUnfinishedCaseFails) {
  Receipt wrong = receipt("9.0", "now");
  wrong.cases[0].correct.ok = false;
  wrong.cases[0].outcome = Outcome::wrong;
  wrong.cases[0].failure = "off by 7";
  EXPECT_EQ(cell({wrong}, "90"), "FAILED");
  EXPECT_EQ(cell({wrong, receipt("9.0", "now")}, "90"), "FAILED") << "a right case does not excuse a wrong one";
  EXPECT_EQ(cell({wrong}, "80"), "COMPILES") << "wrong elsewhere proves nothing";
  Receipt hung = receipt("9.0", "now");
  hung.cases[0].outcome = Outcome::hung;
  EXPECT_EQ(cell({hung}, "90"), "FAILED");
  Receipt grid = receipt("9.0", "now");
  grid.grids.push_back({"sparse_gemm.spmm", "sm80_spmm_b64", "sm80", "now", 10, 1, 0, Outcome::wrong, "n = 1", 0});
  EXPECT_EQ(cell({grid}, "90"), "FAILED");
  const SupportMatrix matrix = make_matrix({kernel()}, {grid});
  EXPECT_NE(matrix_markdown(matrix).find("n = 1"), std::string::npos) << "the sentence stands under the table";
  // Failures of a source that is no more are not held against the new one.
  Receipt old = wrong;
  for (ReceiptCase& entry : old.cases) entry.source_sha256 = "then";
  EXPECT_EQ(cell({old}, "90"), "STALE");
}

TEST(Matrix, OtherKernelsReceiptsDoNotCount) {
  Receipt other = receipt("9.0", "now");
  other.cases[0].kernel = "sm80_spmm_b16";
  EXPECT_EQ(cell({other}, "90"), "COMPILES");
}

TEST(Matrix, HasARowForEveryKernelOfTheRegistry) {
  const SupportMatrix matrix = make_matrix(registry_matrix_kernels(), {});
  ASSERT_EQ(matrix.kernels.size(),
            sparse_gemm_kernels().size() + attention_kernels().size() + attention_backward_kernels().size());
  const std::string markdown = matrix_markdown(matrix);
  const Json json = matrix_json(matrix);
  for (const SparseGemmKernel* row : sparse_gemm_kernels()) {
    EXPECT_NE(markdown.find("| `" + std::string(row->name) + "` |"), std::string::npos) << row->name;
  }
  for (const AttentionKernel* row : attention_kernels()) {
    EXPECT_NE(markdown.find("| `" + std::string(row->name) + "` |"), std::string::npos) << row->name;
  }
  for (const AttentionBackwardKernel* row : attention_backward_kernels()) {
    EXPECT_NE(markdown.find("| `" + std::string(row->name) + "` |"), std::string::npos) << row->name;
  }
  for (std::size_t k = 0; k < matrix.kernels.size(); ++k) {
    EXPECT_EQ(matrix.kernels[k].source_sha256.size(), 64u) << matrix.kernels[k].name;
    const bool on_cpu = matrix.cells[k][column("cpu")].state != CellState::unsupported;
    EXPECT_EQ(on_cpu, matrix.kernels[k].family == "cpu") << matrix.kernels[k].name;
    EXPECT_EQ(json["rows"][k]["cells"].size(), matrix_targets().size());
  }
}

TEST(Matrix, ReadmeHoldsWhatTheProgramPrints) {
  const std::filesystem::path root = TRIAGE_SOURCE_DIR;
  std::ifstream file(root / "README.md");
  ASSERT_TRUE(file) << "README.md is missing";
  std::stringstream text;
  text << file.rdbuf();
  const std::string readme = text.str();
  const std::string begin = "<!-- triage matrix: begin -->\n", end = "<!-- triage matrix: end -->";
  const std::size_t from = readme.find(begin), to = readme.find(end);
  ASSERT_NE(from, std::string::npos) << "README.md has no line " << begin;
  ASSERT_NE(to, std::string::npos) << "README.md has no line " << end;
  const ReceiptFolder folder = read_receipts((root / "receipts").string());
  EXPECT_TRUE(folder.problems.empty());
  std::vector<Receipt> receipts;
  for (const ReceiptFile& found : folder.files) receipts.push_back(found.receipt);
  EXPECT_EQ(readme.substr(from + begin.size(), to - from - begin.size()),
            matrix_markdown(make_matrix(registry_matrix_kernels(), receipts)))
      << "run `triage matrix` and put its output between the two marks in README.md";
}

}  // namespace
}  // namespace triage::verdict
