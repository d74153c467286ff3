// Receipts: the schema's round trip, sentences for broken files, atomic writing, and no loss of cases.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "verdict/receipt.h"

namespace triage::verdict {
namespace {

namespace fs = std::filesystem;

class Receipts : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("receipts-" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string read(const fs::path& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  void write(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }

  fs::path folder_;
};

ReceiptCase example_case() {
  ReceiptCase result;
  result.op = "sparse_gemm.spmm";
  result.kernel = "sm90_spmm_b64";
  result.family = "sm90";
  result.source_sha256 = "abc";
  result.dtype = "float16";
  result.shape = {8192, 8192, 8192, 64, 0.22, "uniform", "canonical", 3605, "cube", ""};
  result.correct = {true, 1.1, 2.1e-4, 5e-4, 1, true, ""};
  result.time = ReceiptTime{0.45, 0.449, 0.452, 200};
  result.tflops = 537;
  result.roof_tflops = 676;
  result.roof_limit = "compute";
  result.peers = {{"cublas_dense", "13.0.0", 1.63, 676, ""}, {"cusparse_blocked_ell", "12.6.3", 1.19, 203, "row-major"}};
  result.not_measured = {{"tilelang", "pip install tilelang"}};
  result.note = "spread of our time 6% of its median";
  return result;
}

Receipt example() {
  Receipt receipt;
  receipt.device.name = "NVIDIA H100 80GB HBM3";
  receipt.device.compute_capability = "9.0";
  receipt.device.driver = "580.159.04";
  receipt.device.cuda = "13.0";
  receipt.device.dense_fp16_tflops = 700;
  receipt.date = "2026-11-22";
  receipt.cases = {example_case()};
  receipt.grids = {{"sparse_gemm.spmm", "sm90_spmm_b64", "sm90", "abc", 120, 0, 3, Outcome::ok, "", 0}};
  ReceiptCrossover crossover;
  crossover.op = "sparse_gemm.spmm";
  crossover.kernel = "sm90_spmm_b64";
  crossover.dtype = "float16";
  crossover.size = 8192;
  crossover.block = 64;
  crossover.dense_peer = "cublas_dense";
  crossover.dense_ms = 1.6;
  crossover.points = {{0.05, 0.2}, {0.9, 2.0}};
  crossover.density = 0.71;
  crossover.relation = "at";
  receipt.crossovers = {crossover};
  return receipt;
}

// The example of the format's description, as a reader of the format would write it.
constexpr const char* kDescribed = R"({
  "schema": 1,
  "device": {"name": "NVIDIA H100 80GB HBM3", "compute_capability": "9.0", "driver": "580.159.04", "cuda": "13.0", "dense_fp16_tflops": 700.0},
  "date": "2026-11-22",
  "cases": [{
    "op": "sparse_gemm.spmm", "kernel": "sm90_spmm_b64", "family": "sm90", "source_sha256": "...", "dtype": "float16",
    "shape": {"m": 8192, "n": 8192, "k": 8192, "block": 64, "density": 0.22, "pattern": "uniform", "layout": "canonical"},
    "correct": {"ok": true, "worst_block_ratio": 1.1, "frobenius": 2.1e-4, "bound": 5e-4, "rechecked_after_timing": true},
    "time_ms": {"median": 0.45, "p20": 0.449, "p80": 0.452, "repeats": 200},
    "tflops": 537.0, "roof": {"tflops": 676.0, "limit": "compute"},
    "peers": [{"name": "cublas_dense", "version": "13.0.0", "time_ms": 1.63, "tflops": 676.0}]
  }]
})";

TEST_F(Receipts, ReadsWhatTheFormatDescribes) {
  const Receipt receipt = receipt_from_json(Json::parse(kDescribed));
  ASSERT_EQ(receipt.cases.size(), 1u);
  EXPECT_EQ(receipt.device.dense_fp16_tflops, 700);
  const ReceiptCase& result = receipt.cases[0];
  EXPECT_EQ(result.shape.block, 64);
  EXPECT_TRUE(result.correct.ok && result.correct.rechecked_after_timing);
  ASSERT_TRUE(result.time.has_value());
  EXPECT_EQ(result.time->repeats, 200);
  EXPECT_EQ(result.tflops, 537);
  EXPECT_EQ(result.roof_limit, "compute");
  ASSERT_EQ(result.peers.size(), 1u);
  EXPECT_EQ(result.peers[0].tflops, 676);
}

TEST_F(Receipts, WritesTheFieldsOfTheFormat) {
  const Json json = to_json(example());
  const Json described = Json::parse(kDescribed);
  for (const auto& [key, value] : described.items()) EXPECT_TRUE(json.contains(key)) << key;
  for (const auto& [key, value] : described["device"].items()) EXPECT_EQ(json["device"][key].type(), value.type()) << key;
  const Json& written = json["cases"][0];
  for (const auto& [key, value] : described["cases"][0].items()) {
    ASSERT_TRUE(written.contains(key)) << key;
    if (!value.is_object()) continue;
    for (const auto& [inner, unused] : value.items()) EXPECT_TRUE(written[key].contains(inner)) << key << "." << inner;
  }
}

TEST_F(Receipts, ComeBackAsTheyWere) {
  const Json once = to_json(example());
  const Json twice = to_json(receipt_from_json(once));
  EXPECT_EQ(once.dump(1), twice.dump(1));
}

TEST_F(Receipts, AFailedCaseComesBackAsFailed) {
  ReceiptCase failed = example_case();
  failed.time.reset();
  failed.outcome = Outcome::hung;
  failed.failure = "no answer within 5 s";
  failed.correct = {};
  const ReceiptCase back = case_from_json(to_json(failed));
  EXPECT_EQ(back.outcome, Outcome::hung);
  EXPECT_EQ(back.failure, failed.failure);
  EXPECT_FALSE(back.correct.ok);
  EXPECT_FALSE(back.time.has_value());
}

TEST_F(Receipts, AnInfiniteErrorHasNoNumberButIsWritten) {
  ReceiptCase wrong = example_case();
  wrong.correct.ok = false;
  wrong.correct.frobenius = std::numeric_limits<double>::infinity();
  const std::string text = to_json(wrong).dump();
  EXPECT_NO_THROW(case_from_json(Json::parse(text)));
}

TEST_F(Receipts, EveryMissingOrMalformedFieldIsASentence) {
  const Json good = Json::parse(kDescribed);
  const auto sentence = [](const Json& json) -> std::string {
    try {
      receipt_from_json(json);
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(sentence(good), "");
  for (const char* path : {"/schema", "/device", "/device/name", "/date", "/cases", "/cases/0/op", "/cases/0/kernel",
                           "/cases/0/source_sha256", "/cases/0/shape", "/cases/0/shape/m", "/cases/0/shape/density",
                           "/cases/0/correct", "/cases/0/correct/ok", "/cases/0/time_ms/median", "/cases/0/peers/0/name"}) {
    const Json::json_pointer pointer(path);
    const std::string field = std::string(path).substr(std::string(path).rfind('/') + 1);
    Json missing = good;
    missing.at(pointer.parent_pointer()).erase(field);
    EXPECT_NE(sentence(missing).find(field), std::string::npos) << path << ": " << sentence(missing);
    for (const Json& junk : {Json(Json::array({1})), Json(-1.5), Json(true), Json("text")}) {
      if (junk.type() == good.at(pointer).type()) continue;
      Json malformed = good;
      malformed[pointer] = junk;
      EXPECT_NE(sentence(malformed), "") << path << " = " << junk.dump();
    }
  }
  Json newer = good;
  newer["schema"] = 2;
  EXPECT_NE(sentence(newer).find("schema"), std::string::npos);
}

TEST_F(Receipts, BrokenFilesAreSentencesAndTheOthersAreRead) {
  write(folder_ / "gpu" / "good.json", kDescribed);
  write(folder_ / "gpu" / "empty.json", "");
  write(folder_ / "gpu" / "truncated.json", std::string(kDescribed).substr(0, 200));
  write(folder_ / "gpu" / "array.json", "[1, 2]");
  write(folder_ / "gpu" / "binary.json", std::string("\x00\xff\xfe", 3));
  write(folder_ / "gpu" / "notes.txt", "no receipt");
  fs::create_directories(folder_ / "gpu" / "folder.json");
  const ReceiptFolder found = read_receipts(folder_.string());
  EXPECT_EQ(found.files.size(), 1u);
  EXPECT_EQ(found.problems.size(), 5u);
  for (const std::string& problem : found.problems) {
    EXPECT_NE(problem.find(".json: "), std::string::npos) << problem;
    EXPECT_EQ(problem.back(), '.') << problem;
  }
  EXPECT_TRUE(read_receipts((folder_ / "nowhere").string()).files.empty());
}

TEST_F(Receipts, AreWrittenOneFileAKernel) {
  Receipt run = example();
  ReceiptCase other = example_case();
  other.kernel = "sm90_spmm_b16";
  run.cases.push_back(other);
  const std::vector<std::string> paths = write_receipts(run, folder_.string());
  ASSERT_EQ(paths.size(), 2u);
  EXPECT_TRUE(fs::exists(folder_ / "nvidia-h100-80gb-hbm3" / "sm90_spmm_b64.json"));
  const ReceiptFolder found = read_receipts(folder_.string());
  ASSERT_EQ(found.files.size(), 2u);
  EXPECT_TRUE(found.problems.empty());
  for (const ReceiptFile& file : found.files) EXPECT_EQ(file.receipt.cases.size(), 1u);
  // Nothing but the receipts is left behind.
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "nvidia-h100-80gb-hbm3"), fs::directory_iterator()), 2);
}

TEST_F(Receipts, APartialRunDoesNotReplaceAFullerRecord) {
  Receipt full = example();
  ReceiptCase second = example_case();
  second.shape.density = 0.05;
  full.cases.push_back(second);
  write_receipts(full, folder_.string());
  const Receipt partial = example();
  EXPECT_THROW(write_receipts(partial, folder_.string()), std::runtime_error);
  EXPECT_EQ(read_receipts(folder_.string()).files.at(0).receipt.cases.size(), 2u);
  Receipt without_grid = full, without_crossover = full;
  without_grid.grids.clear();
  EXPECT_THROW(write_receipts(without_grid, folder_.string()), std::runtime_error);
  without_crossover.crossovers.clear();
  EXPECT_THROW(write_receipts(without_crossover, folder_.string()), std::runtime_error);
  EXPECT_NO_THROW(write_receipts(full, folder_.string()));
  // After a change of the source the old record speaks of something else.
  Receipt changed = example();
  for (ReceiptCase& result : changed.cases) result.source_sha256 = "def";
  EXPECT_NO_THROW(write_receipts(changed, folder_.string()));
  EXPECT_EQ(read_receipts(folder_.string()).files.at(0).receipt.cases.size(), 1u);
}

TEST_F(Receipts, ARunUnderAMemoryLimitIsARecordOfItsOwn) {
  Receipt run = example();
  write_receipts(run, folder_.string());
  run.cases[0].shared_memory_kb = run.grids[0].shared_memory_kb = run.crossovers[0].shared_memory_kb = 99;
  const std::vector<std::string> paths = write_receipts(run, folder_.string());
  ASSERT_EQ(paths.size(), 1u);
  EXPECT_EQ(fs::path(paths[0]).filename(), "sm90_spmm_b64_99kb.json");
  EXPECT_EQ(read_receipts(folder_.string()).files.size(), 2u);
}

TEST_F(Receipts, WhatCannotBeWrittenLeavesNothingBehind) {
  // A folder that cannot be made, and a target that cannot be renamed onto.
  EXPECT_THROW(write_file_atomically("/dev/null/receipt.json", "x"), std::runtime_error);
  fs::create_directories(folder_ / "target");
  EXPECT_THROW(write_file_atomically((folder_ / "target").string(), "x"), std::runtime_error);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
}

TEST_F(Receipts, AtomicWritesReplaceWholeFiles) {
  const std::string path = (folder_ / "a" / "b" / "file.txt").string();
  write_file_atomically(path, "first");
  write_file_atomically(path, "second");
  EXPECT_EQ(read(path), "second");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "a" / "b"), fs::directory_iterator()), 1);
}

TEST_F(Receipts, DeviceNamesBecomeFolders) {
  EXPECT_EQ(device_folder("NVIDIA H100 80GB HBM3"), "nvidia-h100-80gb-hbm3");
  EXPECT_EQ(device_folder("../x"), "---x");
}

}  // namespace
}  // namespace triage::verdict
