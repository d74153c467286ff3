// Sharded models, names in natural order, and text for terminals.
#include "io/safetensors_model.h"

#include "io/text.h"
#include "unit/safetensors_files.h"

namespace triage::io {
namespace {

using test::expect_refusal;

std::string shard(const std::vector<std::string>& names) {
  std::string header = "{", data;
  for (const auto& name : names) {
    header += (data.empty() ? "\"" : ",\"") + name + R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" +
              std::to_string(data.size()) + "," + std::to_string(data.size() + 1) + "]}";
    data += name[0];
  }
  return test::safetensors_bytes(header + "}", data);
}

class ShardedModel : public testing::Test {
 protected:
  void SetUp() override {
    test::write_bytes(directory.file("1.safetensors"), shard({"layer.10.w", "layer.2.w", "unlisted"}));
    test::write_bytes(directory.file("2.safetensors"), shard({"embed"}));
    index(R"({"weight_map":{"layer.10.w":"1.safetensors","layer.2.w":"1.safetensors","embed":"2.safetensors"}})");
  }
  void index(const std::string& text) { test::write_bytes(path, text); }
  test::TemporaryDirectory directory;
  const std::string path = directory.file("model.safetensors.index.json");
};

TEST_F(ShardedModel, OpensByIndexAndByDirectory) {
  for (const auto& given : {path, directory.path()}) {
    const SafetensorsModel model = SafetensorsModel::open(given);
    std::string names;
    for (const auto& tensor : model.tensors()) names += tensor.info->name + (tensor.in_index ? " " : "! ");
    EXPECT_EQ(names, "embed layer.2.w layer.10.w unlisted! ");
    EXPECT_EQ(model.files().size(), 2u);
    ASSERT_NE(model.find("embed"), nullptr);
    EXPECT_EQ(model.find("embed")->file->read_all(*model.find("embed")->info)[0], 'e');
    EXPECT_EQ(model.find("absent"), nullptr);
  }
}

TEST_F(ShardedModel, RefusesABadIndex) {
  const auto open = [&] { SafetensorsModel::open(path); };
  index("");
  expect_refusal(open, "not valid JSON");
  index("[]");
  expect_refusal(open, "not a JSON object");
  index("{}");
  expect_refusal(open, "no object \"weight_map\"");
  index(R"({"weight_map":{}})");
  expect_refusal(open, "names no tensors");
  index(R"({"weight_map":{"a":1}})");
  expect_refusal(open, "'a' is not a string");
  index(R"({"weight_map":{"a":"1.safetensors","a":"2.safetensors"}})");
  expect_refusal(open, "names 'a' twice");
  for (const char* const name : {"../x", "/etc/passwd", "..", ".", "", "a\\\\b", "sub/x"}) {
    index(std::string(R"({"weight_map":{"a":")") + name + "\"}}");
    expect_refusal(open, "not a plain file name");
  }
  index(R"({"weight_map":{"a":"3.safetensors"}})");
  expect_refusal(open, "No such file");
  index(R"({"weight_map":{"a":"1.safetensors"}})");
  expect_refusal(open, "'a' in '1.safetensors', which does not hold it");
  test::write_bytes(directory.file("2.safetensors"), "damaged");
  index(R"({"weight_map":{"embed":"2.safetensors"}})");
  expect_refusal(open, "2.safetensors is 7 bytes long");
}

TEST(SafetensorsModel, OpensADirectoryWithOneFile) {
  const test::TemporaryDirectory directory;
  expect_refusal([&] { SafetensorsModel::open(directory.path()); }, "holds neither");
  test::write_bytes(directory.file("model.safetensors"), shard({"w"}));
  EXPECT_EQ(SafetensorsModel::open(directory.path()).tensors().size(), 1u);
}

TEST(NaturalOrder, ComparesNumbersAsNumbers) {
  EXPECT_TRUE(natural_less("layer.2.w", "layer.10.w"));
  EXPECT_FALSE(natural_less("layer.10.w", "layer.2.w"));
  EXPECT_TRUE(natural_less("a", "a.b"));
  EXPECT_TRUE(natural_less("a1b2", "a1b10"));
  EXPECT_FALSE(natural_less("x", "x"));
  EXPECT_NE(natural_less("a01", "a1"), natural_less("a1", "a01"));  // equal numbers, still a total order
  EXPECT_TRUE(natural_less("a99999999999999999999", "a100000000000000000000"));
  EXPECT_TRUE(natural_less("a0", "a00001"));
}

TEST(Text, FitsATerminal) {
  EXPECT_EQ(elide_middle("encoder.layer.0.attention.output.dense.weight", 20), "encoder...nse.weight");
  EXPECT_EQ(elide_middle("short", 20), "short");
  EXPECT_EQ(elide_middle("ääääääääääääää", 9), "äää...äää");
  EXPECT_EQ(quote("a\x1b[31m\xc2\x9b"), "'a\\x1b[31m\\x9b'");
  EXPECT_LT(quote(std::string(1'000'000, 'a')).size(), 200u);
  EXPECT_EQ(bytes_text(999), "999 bytes");
  EXPECT_EQ(bytes_text(90'868'376), "90.9 MB");
  EXPECT_EQ(bytes_text(999'960), "1.0 MB");
  EXPECT_EQ(bytes_text(~std::uint64_t{0}), "18.4 EB");
}

}  // namespace
}  // namespace triage::io
