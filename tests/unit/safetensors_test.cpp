// The safetensors reader: what it accepts, and the sentence for everything else.
#include "io/safetensors.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit/safetensors_files.h"

namespace triage::io {
namespace {

using test::expect_refusal;
using test::safetensors_bytes;

TEST(Safetensors, ReadsTensorsAndMetadata) {
  const test::TemporaryDirectory directory;
  const std::string path = directory.file("a.safetensors");
  test::write_bytes(path, safetensors_bytes(R"({"__metadata__":{"format":"pt"},)"
                                            R"("late":{"dtype":"I32","shape":[1],"data_offsets":[6,10]},)"
                                            R"("früh":{"dtype":"F16","shape":[3,1],"data_offsets":[0,6]}}  )",
                                            "abcdef\x01\x02\x03\x04"));
  const SafetensorsFile file(path);
  ASSERT_EQ(file.header().tensors.size(), 2u);
  const TensorInfo& first = file.header().tensors[0];
  EXPECT_EQ(first.name, "früh");
  EXPECT_EQ(first.dtype, TensorDtype::f16);
  EXPECT_EQ(first.shape, (std::vector<std::int64_t>{3, 1}));
  EXPECT_EQ(file.header().metadata.at("format"), "pt");
  EXPECT_EQ(file.read_all(*file.header().find("late")), (std::vector<unsigned char>{1, 2, 3, 4}));
  char part[2];
  file.read(first, 4, part, 2);
  EXPECT_EQ(std::string(part, 2), "ef");
  expect_refusal([&] { file.read(first, 5, part, 2); }, "past the end of tensor 'früh'");
  EXPECT_EQ(file.header().find("absent"), nullptr);
}

TEST(Safetensors, KnowsEveryDtype) {
  const std::pair<const char*, int> dtypes[] = {
      {"BOOL", 8}, {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},   {"I8", 8},    {"F8_E5M2", 8},
      {"I16", 16}, {"U16", 16}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F16", 16}, {"BF16", 16}, {"I32", 32},
      {"U32", 32}, {"F32", 32}, {"I64", 64},    {"U64", 64},    {"F64", 64}, {"C64", 64}};
  for (const auto& [name, bits] : dtypes) {
    const std::size_t bytes = static_cast<std::size_t>(bits);  // 8 elements
    const auto header =
        parse_safetensors(safetensors_bytes(std::string(R"({"t":{"dtype":")") + name +
                                                R"(","shape":[2,4],"data_offsets":[0,)" + std::to_string(bytes) + "]}}",
                                            std::string(bytes, 'x')),
                          "f");
    EXPECT_STREQ(dtype_name(header.tensors[0].dtype), name);
    EXPECT_EQ(dtype_bits(header.tensors[0].dtype), bits);
    const std::string dtype = name;
    EXPECT_EQ(is_weight_dtype(header.tensors[0].dtype),
              dtype == "F64" || dtype == "F32" || dtype == "F16" || dtype == "BF16");
  }
}

TEST(Safetensors, AcceptsAFileWithoutTensorsAndEmptyTensors) {
  EXPECT_TRUE(parse_safetensors(safetensors_bytes("{}", ""), "f").tensors.empty());
  const auto header = parse_safetensors(
      safetensors_bytes(
          R"({"a":{"dtype":"F32","shape":[4611686018427387904,0,4611686018427387904],"data_offsets":[0,0]},)"
          R"("b":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})",
          "wxyz"),
      "f");
  EXPECT_EQ(header.find("a")->bytes(), 0u);
  EXPECT_EQ(header.find("b")->bytes(), 4u);
}

struct BadHeader {
  const char* name;
  const char* header;
  int data_bytes;
  const char* sentence;
};

class SafetensorsBadHeader : public testing::TestWithParam<BadHeader> {};

TEST_P(SafetensorsBadHeader, IsRefused) {
  const BadHeader& bad = GetParam();
  expect_refusal(
      [&] {
        parse_safetensors(safetensors_bytes(bad.header, std::string(static_cast<std::size_t>(bad.data_bytes), 'x')),
                          "f");
      },
      bad.sentence);
}

#define TENSOR(rest) "{\"t\":{" rest "}}"
INSTANTIATE_TEST_SUITE_P(
    All, SafetensorsBadHeader,
    testing::Values(
        BadHeader{"NoObject", "[1]", 0, "does not begin with '{'"},
        BadHeader{"NoJson", "{\"t\":}", 0, "is not valid JSON (at byte 6)"},
        BadHeader{"CutJson", "{\"t\":{\"dtype\":\"F32\"", 0, "is not valid JSON"},
        BadHeader{"TextAfterJson", "{} {}", 0, "is not valid JSON"},
        BadHeader{"BadUtf8", "{\"\xff\":{}}", 0, "is not valid JSON"},
        BadHeader{"HugeNumber", TENSOR("\"dtype\":\"F32\",\"shape\":[1e999],\"data_offsets\":[0,4]"), 4,
                  "cannot represent"},
        BadHeader{"Nesting", "{\"a\":[[[[[[[[[[]]]]]]]]]]}", 0, "nests deeper"},
        BadHeader{"TwiceTheSameName",
                  "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                  "\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                  2, "names 't' twice"},
        BadHeader{"TwiceTheSameField", TENSOR("\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]"),
                  1, "'dtype' twice"},
        BadHeader{"ControlCharacterInName", "{\"a\\u001b[2J\\n\":1}", 0, "'a\\x1b[2J\\x0a'"},
        BadHeader{"TensorNoObject", "{\"t\":3}", 0, "something other than a JSON object"},
        BadHeader{"NoDtype", TENSOR("\"shape\":[1],\"data_offsets\":[0,1]"), 1, "has no \"dtype\""},
        BadHeader{"NoShape", TENSOR("\"dtype\":\"U8\",\"data_offsets\":[0,1]"), 1, "has no \"shape\""},
        BadHeader{"NoOffsets", TENSOR("\"dtype\":\"U8\",\"shape\":[1]"), 1, "has no \"data_offsets\""},
        BadHeader{"DtypeNoString", TENSOR("\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]"), 1, "not a string"},
        BadHeader{"UnknownDtype", TENSOR("\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,1]"), 1,
                  "unknown dtype 'F33'"},
        BadHeader{"ShapeNoArray", TENSOR("\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]"), 1, "not an array"},
        BadHeader{"NegativeSize", TENSOR("\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]"), 1,
                  "not a whole number from 0"},
        BadHeader{"FractionalSize", TENSOR("\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]"), 1,
                  "not a whole number from 0"},
        BadHeader{"SizePastInt64", TENSOR("\"dtype\":\"U8\",\"shape\":[9223372036854775808],\"data_offsets\":[0,1]"), 1,
                  "not a whole number from 0"},
        BadHeader{"ShapeOverflow", TENSOR("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]"),
                  0, "too large to address"},
        BadHeader{"OffsetsNoArray", TENSOR("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":1"), 1,
                  "array of two numbers"},
        BadHeader{"ThreeOffsets", TENSOR("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]"), 1,
                  "array of two numbers"},
        BadHeader{"NegativeOffset", TENSOR("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]"), 1,
                  "data offset is not a whole number"},
        BadHeader{"BackwardOffsets", TENSOR("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]"), 1,
                  "ends before it begins"},
        BadHeader{"ShapeAgainstOffsets", TENSOR("\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,12]"), 12,
                  "F32 2 x 2, needs 16 bytes but its data_offsets span 12"},
        BadHeader{"HalfAByte", TENSOR("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]"), 2,
                  "whole number of bytes"},
        BadHeader{"Truncated", TENSOR("\"dtype\":\"U8\",\"shape\":[9],\"data_offsets\":[0,9]"), 8, "truncated"},
        BadHeader{"BytesLeftOver", TENSOR("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]"), 5,
                  "goes on for 3 bytes"},
        BadHeader{"Gap", TENSOR("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]"), 3, "gaps are not allowed"},
        BadHeader{"Overlap",
                  "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                  "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
                  3, "'b' overlaps"},
        BadHeader{"MetadataNoObject", "{\"__metadata__\":[]}", 0, "__metadata__ is not a JSON object"},
        BadHeader{"MetadataNoString", "{\"__metadata__\":{\"a\":1}}", 0, "metadata entry 'a' is not a string"}),
    [](const auto& info) { return std::string(info.param.name); });
#undef TENSOR

TEST(Safetensors, RefusesALyingHeaderLength) {
  const auto with_length = [](std::uint64_t length, const std::string& rest) {
    std::string bytes;
    for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> 8 * i & 0xFF);
    return bytes + rest;
  };
  const auto parse = [](const std::string& bytes) { return [bytes] { parse_safetensors(bytes, "f"); }; };
  expect_refusal(parse(""), "f is 0 bytes long: too short");
  expect_refusal(parse("1234567"), "f is 7 bytes long: too short");
  expect_refusal(parse(with_length(3, "{}")), "truncated");
  expect_refusal(parse(with_length(0, "{}")), "its header is 0 bytes long");
  expect_refusal(parse(with_length(kMaxHeaderBytes + 1, "{}")), "at most 100000000");
  expect_refusal(parse(with_length(~std::uint64_t{0}, "{}")), "at most 100000000");
  expect_refusal(parse("PK\x03\x04 and the rest of a zip file"), "not a safetensors file");
}

TEST(Safetensors, RefusesWhatIsNoFile) {
  const test::TemporaryDirectory directory;
  const auto open = [](const std::string& path) { return [path] { SafetensorsFile file(path); }; };
  expect_refusal(open(directory.file("absent.safetensors")), "No such file");
  expect_refusal(open(directory.path()), "is a directory");
  test::write_bytes(directory.file("empty"), "");
  expect_refusal(open(directory.file("empty")), "is empty");
  ASSERT_EQ(::mkfifo(directory.file("fifo").c_str(), 0600), 0);
  expect_refusal(open(directory.file("fifo")), "is not a regular file");  // and does not wait for a writer
  expect_refusal(open("/dev/zero"), "is not a regular file");
  test::write_bytes(directory.file("line\nbreak"), "x");
  expect_refusal(open(directory.file("line\nbreak")), "line\\x0abreak");
}

TEST(Safetensors, RefusesAnUnreadableFile) {
  const test::TemporaryDirectory directory;
  const std::string path = directory.file("secret.safetensors");
  test::write_bytes(path, safetensors_bytes("{}", ""));
  ASSERT_EQ(::chmod(path.c_str(), 0), 0);
  ASSERT_EQ(::chmod(directory.path().c_str(), 0755), 0);
  const pid_t child = ::fork();  // root reads everything, so another user must try
  if (child == 0) {
    if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(3);
    try {
      const SafetensorsFile file(path);
      ::_exit(1);
    } catch (const Error& error) {
      ::_exit(std::string(error.what()).find("Permission denied") != std::string::npos ? 0 : 2);
    }
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(Safetensors, AFileThatShrinksGivesASentence) {
  const test::TemporaryDirectory directory;
  const std::string path = directory.file("a.safetensors");
  const std::string bytes = safetensors_bytes(R"({"t":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}})", "123456789");
  test::write_bytes(path, bytes);
  const SafetensorsFile file(path);
  ASSERT_EQ(::truncate(path.c_str(), static_cast<off_t>(bytes.size() - 4)), 0);
  expect_refusal([&] { file.read_all(file.header().tensors[0]); }, "became shorter");
}

}  // namespace
}  // namespace triage::io
