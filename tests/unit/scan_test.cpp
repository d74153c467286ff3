// `triage scan` without the stopwatch: which tensors it looks at, zero blocks, pruning and saving.
#include "verdict/scan_save.h"

#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <regex>
#include <sstream>

#include "triage/io.h"
#include "unit/scan_models.h"
#include "verdict/scan_blocks.h"
#include "verdict/scan_values.h"
#include "verdict/scan_weights.h"

namespace triage::verdict {
namespace {

using test::bytes_of;
using test::expect_refusal;
using test::matrix;
using test::noise;
using test::ScanFiles;

using ScanWeights = ScanFiles;

TEST_F(ScanWeights, EveryTensorIsTakenOrSkippedWithAReason) {
  const std::string path =
      save("m.safetensors", {{"embeddings.word_embeddings.weight", "F32", {2, 2}, std::string(16, 'x')},
                             {"layer.0.weight", "F32", {2, 3}, std::string(24, 'x')},
                             {"layer.0.bias", "F32", {2}, std::string(8, 'x')},
                             {"conv", "F16", {1, 1, 1}, "xy"},
                             {"position_ids", "I64", {1, 2}, std::string(16, 'x')},
                             {"small", "BF16", {1, 2}, "abcd"},
                             {"unwanted", "F32", {2, 2}, std::string(16, 'x')}});
  const auto model = io::SafetensorsModel::open(path);
  WeightFilter filter;
  filter.min_size = 2;
  filter.exclude = std::regex("unw");
  const WeightSelection selection = select_weights(model, filter);
  ASSERT_EQ(selection.matrices.size(), 1u);
  EXPECT_EQ(selection.matrices[0].name(), "layer.0.weight");
  EXPECT_EQ(selection.matrices[0].dense_bytes(), 24u);
  std::map<std::string, std::string> reasons;
  for (const auto& skipped : selection.skipped) reasons[skipped.name] = skipped.reason;
  EXPECT_EQ(reasons.size(), 6u);
  EXPECT_NE(reasons["embeddings.word_embeddings.weight"].find("embedding"), std::string::npos);
  EXPECT_EQ(reasons["layer.0.bias"], "1-D, not a matrix");
  EXPECT_EQ(reasons["conv"], "3-D, not a matrix");
  EXPECT_NE(reasons["position_ids"].find("I64"), std::string::npos);
  EXPECT_NE(reasons["small"].find("--min-size 2"), std::string::npos);
  EXPECT_EQ(reasons["unwanted"], "--exclude matches");

  WeightFilter embedding;
  embedding.min_size = 1;
  embedding.include = std::regex("word_embeddings");
  EXPECT_EQ(select_weights(model, embedding).matrices[0].name(), "embeddings.word_embeddings.weight");
}

TEST(ScanNames, TellsEmbeddingsFromOtherWeights) {
  for (const char* const name : {"model.embed_tokens.weight", "transformer.wte.weight", "wpe.weight", "shared.weight",
                                 "bert.embeddings.position_embeddings.weight", "tok_embeddings.weight",
                                 "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"}) {
    EXPECT_TRUE(is_embedding_name(name)) << name;
  }
  for (const char* const name : {"encoder.layer.0.output.dense.weight", "lm_head.weight", "mlp.shared_expert.up.weight",
                                 "model.layers.0.self_attn.q_proj.weight", "member.weight"}) {
    EXPECT_FALSE(is_embedding_name(name)) << name;
  }
}

using ScanBlocks = ScanFiles;

TEST_F(ScanBlocks, CensusAgreesWithACountByHand) {
  constexpr std::int64_t kRows = 300, kCols = 150;  // ragged at every block size
  std::mt19937 random(3);
  std::vector<float> values(kRows * kCols, 0.0f);
  for (int i = 0; i < 40; ++i) values[random() % values.size()] = 1e-30f;
  values[5] = -0.0f;
  values[kRows * kCols - 1] = NAN;
  const auto model =
      io::SafetensorsModel::open(save("m.safetensors", {{"w", "F32", {kRows, kCols}, bytes_of(values)}}));
  const auto selection = select_weights(model, {});
  const auto lists = census(selection.matrices.at(0));
  for (std::size_t i = 0; i < kBlockSizes.size(); ++i) {
    const std::int64_t block = kBlockSizes[i];
    BlockList expected;
    for (std::int64_t top = 0; top < kRows; top += block) {
      for (std::int64_t left = 0; left < kCols; left += block) {
        bool nonzero = false;
        for (std::int64_t r = top; r < std::min(top + block, kRows); ++r) {
          for (std::int64_t c = left; c < std::min(left + block, kCols); ++c) {
            nonzero |= values[static_cast<std::size_t>(r * kCols + c)] != 0.0f;  // true for NaN
          }
        }
        if (nonzero) expected.col.push_back(static_cast<std::int32_t>(left / block));
      }
      expected.crow.push_back(static_cast<std::int32_t>(expected.col.size()));
    }
    EXPECT_EQ(lists[i].block, block);
    EXPECT_EQ(lists[i].crow, expected.crow);
    EXPECT_EQ(lists[i].col, expected.col);
    EXPECT_EQ(lists[i].total(), ((kRows + block - 1) / block) * ((kCols + block - 1) / block));
  }
}

TEST_F(ScanBlocks, KeepsTheLargestAndTheEarlierOfEquals) {
  // 3 x 3 blocks of 16; block (i, j) holds one value.
  const float values[3][3] = {{1, 5, 1}, {0, -7, 1}, {1, 1, 3}};
  const auto dense =
      matrix(48, 40, [&](auto r, auto c) { return r % 16 == 3 && c % 16 == 2 ? values[r / 16][c / 16] : 0.0f; });
  const auto model = io::SafetensorsModel::open(save("m.safetensors", {{"w", "F32", {48, 40}, bytes_of(dense)}}));
  WeightFilter filter;
  filter.min_size = 1;
  const auto selection = select_weights(model, filter);
  const auto kept = [&](double density) { return keep_largest(selection.matrices.at(0), 16, density); };
  using Indices = std::vector<std::int32_t>;
  EXPECT_EQ(kept(3.0 / 9).crow, (Indices{0, 1, 2, 3}));
  EXPECT_EQ(kept(3.0 / 9).col, (Indices{1, 1, 2}));
  EXPECT_EQ(kept(5.0 / 9).col, (Indices{0, 1, 2, 1, 2}));  // of six ones, the first two
  EXPECT_EQ(kept(0.001).col, (Indices{1}));                // at least one
  EXPECT_EQ(kept(1).nonzero(), 8);                         // the zero block is never kept
  EXPECT_EQ(kept(0.5), kept(0.5));
}

TEST_F(ScanBlocks, ANaNIsKept) {
  auto dense = noise(64, 64, 1);
  dense[40 * 64 + 50] = NAN;
  const auto model = io::SafetensorsModel::open(save("m.safetensors", {{"w", "F32", {64, 64}, bytes_of(dense)}}));
  const auto kept = keep_largest(select_weights(model, {}).matrices.at(0), 32, 0.25);
  EXPECT_EQ(kept.crow, (std::vector<std::int32_t>{0, 0, 1}));
  EXPECT_EQ(kept.col, (std::vector<std::int32_t>{1}));
}

TEST(RandomBlocks, HaveTheDensityAndRepeat) {
  const BlockList list = random_blocks(1000, 500, 32, 0.3, 5);
  EXPECT_EQ(list.nonzero(), std::llround(0.3 * 32 * 16));
  EXPECT_EQ(list, random_blocks(1000, 500, 32, 0.3, 5));
  EXPECT_NE(list, random_blocks(1000, 500, 32, 0.3, 6));
  EXPECT_EQ(list.pattern().nnz_blocks(), list.nonzero());
}

// Saves with every dtype, reads back by scan and by the public API, and compares with the original.
class ScanSave : public ScanFiles, public testing::WithParamInterface<const char*> {};

TEST_P(ScanSave, ReadsBackWhatItSaved) {
  const std::string dtype = GetParam();
  const std::size_t element = dtype == "F64" ? 8 : dtype == "F32" ? 4 : 2;
  constexpr std::int64_t kRows = 70, kCols = 90;
  std::mt19937 random(9);
  std::string data;
  for (std::int64_t i = 0; i < kRows * kCols; ++i) {
    const double value = (static_cast<int>(random() % 255) - 127) / 8.0;  // exact in every dtype
    unsigned char bytes[8];
    const auto narrow = static_cast<float>(value);
    std::uint32_t bits;
    std::memcpy(&bits, &narrow, 4);
    if (dtype == "F64") std::memcpy(bytes, &value, 8);
    if (dtype == "F32") std::memcpy(bytes, &narrow, 4);
    if (dtype == "BF16") std::memcpy(bytes, reinterpret_cast<unsigned char*>(&bits) + 2, 2);
    if (dtype == "F16") {
      const std::uint16_t half =
          value == 0 ? 0
                     : static_cast<std::uint16_t>((bits >> 16 & 0x8000) | ((bits >> 23 & 0xFF) - 112) << 10 |
                                                  (bits >> 13 & 0x3FF));
      std::memcpy(bytes, &half, 2);
    }
    data.append(reinterpret_cast<char*>(bytes), element);
  }
  const auto model = io::SafetensorsModel::open(
      save("m.safetensors", {{"l.weight", dtype, {kRows, kCols}, data}, {"l.bias", "F32", {2}, "abcdefgh"}}));
  const auto selection = select_weights(model, {});
  const WeightMatrix& weight = selection.matrices.at(0);
  const std::vector<PrunedWeight> pruned{{&weight, keep_largest(weight, 32, 0.5)}};
  const std::string out = directory.file("out.safetensors");
  const std::uint64_t size = save_pruned(out, model, pruned);
  EXPECT_EQ(size, std::filesystem::file_size(out));

  const auto saved = io::SafetensorsModel::open(out);
  const auto again = select_weights(saved, {});
  ASSERT_EQ(again.matrices.size(), 1u);
  const WeightMatrix& read = again.matrices[0];
  EXPECT_EQ(read.name(), "l.weight");
  EXPECT_EQ(read.stored_block(), 32);
  EXPECT_EQ(read.stored_bytes(), pruned_bytes(pruned[0]));
  const auto bias = saved.find("l.bias");
  ASSERT_NE(bias, nullptr);
  const auto bias_data = bias->file->read_all(*bias->info);
  EXPECT_EQ(std::string(bias_data.begin(), bias_data.end()), "abcdefgh");

  std::vector<float> before(kRows * kCols), after(kRows * kCols);
  weight.read_rows(0, kRows, before.data());
  read.read_rows(0, kRows, after.data());
  const BlockList& kept = pruned[0].kept;
  EXPECT_EQ(census(read)[1], kept);
  EXPECT_EQ(kept.nonzero(), 5);  // half of 3 x 3, rounded
  const BlockSparseMatrix loaded = load_block_sparse(out, "l.weight");
  EXPECT_EQ(block_sparse_names(out), std::vector<std::string>{"l.weight"});
  EXPECT_EQ(loaded.pattern.nnz_blocks(), kept.nonzero());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(loaded.values.data) % 256, 0u);
  for (std::int64_t r = 0; r < kRows; ++r) {
    for (std::int64_t c = 0; c < kCols; ++c) {
      std::int64_t position = -1;
      for (std::int32_t i = kept.crow[r / 32]; i < kept.crow[r / 32 + 1]; ++i) {
        if (kept.col[i] == c / 32) position = i;
      }
      const auto at = static_cast<std::size_t>(r * kCols + c);
      ASSERT_EQ(after[at], position >= 0 ? before[at] : 0.0f) << r << ", " << c;
      if (position < 0) continue;
      const auto* value = static_cast<const char*>(loaded.values.data) +
                          ((position * 32 + r % 32) * 32 + c % 32) * static_cast<std::int64_t>(element);
      ASSERT_EQ(std::memcmp(value, data.data() + at * element, element), 0) << r << ", " << c;
    }
  }
  // Rows from the middle of a block on, as census and pruning of larger matrices would not ask for.
  std::vector<float> middle(7 * kCols);
  read.read_rows(29, 7, middle.data());
  EXPECT_TRUE(std::equal(middle.begin(), middle.end(), after.begin() + 29 * kCols));

  // Pruning the pruned model again.
  const std::vector<PrunedWeight> twice{{&read, keep_largest(read, 16, 0.1)}};
  const std::string second = directory.file("second.safetensors");
  save_pruned(second, saved, twice);
  EXPECT_EQ(load_block_sparse(second, "l.weight").pattern.block_size(), 16);
  EXPECT_EQ(block_sparse_names(second).size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, ScanSave, testing::Values("F64", "F32", "F16", "BF16"),
                         [](const auto& info) { return std::string(info.param); });

TEST_F(ScanFiles, TheApiSavesAndLoads) {
  const BlockList list = random_blocks(40, 60, 16, 0.5, 2);
  const BlockPattern pattern = list.pattern();
  std::vector<float> values(static_cast<std::size_t>(list.nonzero()) * 256);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  std::int64_t shape[3] = {list.nonzero(), 16, 16};
  BlockSparseMatrix matrix;
  matrix.name = "a \"quoted\" näme";
  matrix.pattern = pattern;
  matrix.values.data = values.data();
  matrix.values.device = {kDLCPU, 0};
  matrix.values.ndim = 3;
  matrix.values.dtype = {kDLFloat, 32, 1};
  matrix.values.shape = shape;
  const std::string path = directory.file("a.safetensors");
  save_block_sparse(path, {matrix});
  const BlockSparseMatrix loaded = load_block_sparse(path, matrix.name);
  EXPECT_EQ(loaded.pattern.rows(), 40);
  EXPECT_EQ(loaded.pattern.cols(), 60);
  EXPECT_EQ(std::memcmp(loaded.values.data, values.data(), values.size() * 4), 0);
  expect_refusal([&] { load_block_sparse(path, "b"); }, "holds no block-sparse matrix 'b'; it holds 'a \"quoted\"");
  expect_refusal([&] { save_block_sparse(path, {matrix, matrix}); }, "twice");
  shape[0] -= 1;
  expect_refusal([&] { save_block_sparse(path, {matrix}); }, "do not have the shape");
  shape[0] += 1;
  matrix.values.dtype = {kDLInt, 32, 1};
  expect_refusal([&] { save_block_sparse(path, {matrix}); }, "cannot be stored");
}

TEST_F(ScanFiles, RefusesADamagedBlockSparseFile) {
  const auto file = [&](const std::string& metadata, const std::string& crow_dtype, std::vector<std::int32_t> crow,
                        std::vector<std::int32_t> col) {
    nlohmann::ordered_json header;
    const std::size_t values = col.size() * 16 * 16 * 4;
    header["__metadata__"] = {{"format", "triage.block_sparse"}, {"version", "1"}, {"block_sparse", metadata}};
    header["w.values"] = {{"dtype", "F32"}, {"shape", {col.size(), 16, 16}}, {"data_offsets", {0, values}}};
    header["w.crow_indices"] = {
        {"dtype", crow_dtype}, {"shape", {crow.size()}}, {"data_offsets", {values, values + crow.size() * 4}}};
    header["w.col_indices"] = {{"dtype", "I32"},
                               {"shape", {col.size()}},
                               {"data_offsets", {values + crow.size() * 4, values + crow.size() * 4 + col.size() * 4}}};
    std::string data(values, '\0');
    data.append(reinterpret_cast<const char*>(crow.data()), crow.size() * 4);
    data.append(reinterpret_cast<const char*>(col.data()), col.size() * 4);
    test::write_bytes(directory.file("w.safetensors"), test::safetensors_bytes(header.dump(), data));
  };
  const auto load = [&] { load_block_sparse(directory.file("w.safetensors"), "w"); };
  const std::string good = R"({"w":{"shape":[32,40],"block":16}})";
  file(good, "I32", {0, 1, 2}, {2, 0});
  load();
  file(good, "I32", {0, 1, 2}, {3, 0});
  expect_refusal(load, "matrix 'w'");
  file(good, "I32", {0, 2, 2}, {1, 1});
  expect_refusal(load, "matrix 'w'");
  file(good, "I32", {0, 2, 1}, {0, 1});
  expect_refusal(load, "matrix 'w'");
  file(good, "I32", {0, 1, 3}, {0, 1});
  expect_refusal(load, "matrix 'w'");
  file(good, "I32", {0, 2}, {0, 1});
  expect_refusal(load, "'w.crow_indices' has the shape 2 instead of 3");
  file(good, "U32", {0, 1, 2}, {2, 0});
  expect_refusal(load, "is U32 (accepted: I32)");
  file(R"({"w":{"shape":[32,40],"block":17}})", "I32", {0, 1, 2}, {2, 0});
  expect_refusal(load, "block size is 17");
  file(R"({"w":{"shape":[32],"block":16}})", "I32", {0, 1, 2}, {2, 0});
  expect_refusal(load, "not an array of two sizes");
  file(R"({"w":{"shape":[32,0],"block":16}})", "I32", {0, 1, 2}, {2, 0});
  expect_refusal(load, "from 1 to 2147483647");
  file(R"({"w":{"shape":[2147483647,2147483647],"block":16}})", "I32", {0, 1, 2}, {2, 0});
  expect_refusal(load, "at most 2^40");
  file(R"({"v":{"shape":[32,40],"block":16}})", "I32", {0, 1, 2}, {2, 0});
  expect_refusal(load, "holds no tensor 'v.values'");
  file("[]", "I32", {0, 1, 2}, {2, 0});
  expect_refusal(load, "not a JSON object");
}

TEST_F(ScanFiles, TheModelItselfIsNeverOverwritten) {
  const std::string path = save("m.safetensors", {{"w", "F32", {64, 64}, bytes_of(noise(64, 64, 1))}});
  std::filesystem::create_symlink("m.safetensors", directory.file("link"));
  const auto model = io::SafetensorsModel::open(path);
  for (const auto& out : {path, directory.file("./m.safetensors"), directory.file("link")}) {
    expect_refusal([&] { check_output(out, model); }, "is the model itself");
  }
  expect_refusal([&] { check_output(directory.file("no/such/folder"), model); }, "No such file");
  check_output(directory.file("new"), model);
  EXPECT_FALSE(std::filesystem::exists(directory.file("new")));
}

TEST(WeightValues, Float64KeepsZeroAndNonzeroApart) {
  const double in[] = {0.0, -0.0, 1e-300, -1e-300, 1e300, -1e300, 0.1, NAN};
  float out[8];
  to_float(io::TensorDtype::f64, in, 8, out);
  EXPECT_EQ(out[0], 0.0f);
  EXPECT_EQ(out[1], 0.0f);
  EXPECT_GT(out[2], 0.0f);
  EXPECT_LT(out[3], 0.0f);
  EXPECT_EQ(out[4], INFINITY);
  EXPECT_EQ(out[5], -INFINITY);
  EXPECT_EQ(out[6], 0.1f);
  EXPECT_TRUE(std::isnan(out[7]));
  expect_refusal([&] { to_float(io::TensorDtype::i32, in, 1, out); }, "I32");
}

}  // namespace
}  // namespace triage::verdict
