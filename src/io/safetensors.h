// Reading of safetensors files: an 8-byte little-endian length, that many bytes of JSON which name every tensor's
// dtype, shape and byte range, then the data. Format: https://github.com/huggingface/safetensors (README, "Format").
//
// A header is believed only after it has been checked: lengths against the file, dtypes and shapes against byte ranges
// (without overflow), and ranges against each other, which must cover the data exactly, without overlap or gap. Every
// error is a triage::Error(invalid_argument) with one sentence.
//
// Data is read with positioned reads instead of a memory map: a file that shrinks while it is read, or a failing disk,
// then gives a sentence, where a map would kill the process with SIGBUS. The page cache serves both alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace triage::io {

/// The longest header that is read, bytes; the limit of the format's own library.
inline constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

enum class TensorDtype {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  i64,
  u64,
  f64,
  c64
};

/// The name in the file ("F16") of a dtype, and the bits of one element.
const char* dtype_name(TensorDtype dtype);
int dtype_bits(TensorDtype dtype);
/// F64, F32, F16 and BF16: what a weight may be.
bool is_weight_dtype(TensorDtype dtype);

/// One tensor of a file. `begin` and `end` count bytes from the start of the data.
struct TensorInfo {
  std::string name;
  TensorDtype dtype = TensorDtype::f32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;
  std::uint64_t bytes() const { return end - begin; }
};

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  ///< in the order of their data
  std::map<std::string, std::string> metadata;
  std::uint64_t data_begin = 0;                         ///< byte offset of the data in the file
  const TensorInfo* find(std::string_view name) const;  ///< nullptr if there is none
};

/// Checks the first 8 bytes and gives the length of the JSON that follows.
/// @param file_bytes size of the whole file.
/// @param path for sentences.
std::uint64_t parse_header_length(const unsigned char* first8, std::uint64_t file_bytes, const std::string& path);

/// Parses and checks the JSON of a header. `file_bytes` is the size of the whole file.
SafetensorsHeader parse_header(std::string_view json, std::uint64_t file_bytes, const std::string& path);

/// Both of the above on a file in memory: what the fuzzers call.
SafetensorsHeader parse_safetensors(std::string_view file, const std::string& path);

/// Bytes that a tensor of this dtype and shape takes; throws if a size is negative, or the product overflows or is no
/// whole number of bytes. `what` names the tensor in the sentence.
std::uint64_t tensor_bytes(TensorDtype dtype, const std::vector<std::int64_t>& shape, const std::string& what);

/// A regular file opened for reading. Moves, does not copy.
class InputFile {
 public:
  InputFile() = default;
  /// Throws for what is missing, unreadable, a directory or no regular file.
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;

  const std::string& path() const { return path_; }
  std::uint64_t bytes() const { return bytes_; }
  /// Fills `out` with the `count` bytes at `offset`; throws if they cannot all be had. Safe from several threads.
  void read(std::uint64_t offset, void* out, std::size_t count) const;
  /// Whether `path` leads to this very file.
  bool is_same_file(const std::string& path) const;

 private:
  std::string path_;
  std::uint64_t bytes_ = 0;
  int descriptor_ = -1;
};

/// An opened file with its checked header.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);
  const std::string& path() const { return file_.path(); }
  const InputFile& file() const { return file_; }
  const SafetensorsHeader& header() const { return header_; }
  /// Fills `out` with `count` bytes of the tensor's data, from byte `offset` of it on.
  void read(const TensorInfo& tensor, std::uint64_t offset, void* out, std::size_t count) const;
  /// All of a tensor's data.
  std::vector<unsigned char> read_all(const TensorInfo& tensor) const;

 private:
  InputFile file_;
  SafetensorsHeader header_;
};

}  // namespace triage::io
