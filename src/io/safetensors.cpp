#include "io/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "io/json.h"
#include "io/text.h"
#include "triage/error.h"

namespace triage::io {
namespace {

using nlohmann::json;

struct DtypeRow {
  TensorDtype dtype;
  const char* name;
  int bits;
};

constexpr DtypeRow kDtypes[] = {
    {TensorDtype::boolean, "BOOL", 8},    {TensorDtype::f4, "F4", 4},           {TensorDtype::f6_e2m3, "F6_E2M3", 6},
    {TensorDtype::f6_e3m2, "F6_E3M2", 6}, {TensorDtype::u8, "U8", 8},           {TensorDtype::i8, "I8", 8},
    {TensorDtype::f8_e5m2, "F8_E5M2", 8}, {TensorDtype::f8_e4m3, "F8_E4M3", 8}, {TensorDtype::f8_e8m0, "F8_E8M0", 8},
    {TensorDtype::i16, "I16", 16},        {TensorDtype::u16, "U16", 16},        {TensorDtype::f16, "F16", 16},
    {TensorDtype::bf16, "BF16", 16},      {TensorDtype::i32, "I32", 32},        {TensorDtype::u32, "U32", 32},
    {TensorDtype::f32, "F32", 32},        {TensorDtype::i64, "I64", 64},        {TensorDtype::u64, "U64", 64},
    {TensorDtype::f64, "F64", 64},        {TensorDtype::c64, "C64", 64},
};

const DtypeRow& dtype_row(TensorDtype dtype) {
  return *std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const DtypeRow& row) { return row.dtype == dtype; });
}

[[noreturn]] void fail(const std::string& sentence) { throw Error(ErrorCode::invalid_argument, sentence); }

std::uint64_t offset_value(const json& value, const std::string& what) {
  if (!value.is_number_unsigned()) fail(what + ": a data offset is not a whole number from 0 to 2^64 - 1");
  return value.get<std::uint64_t>();
}

TensorInfo parse_tensor(const std::string& name, const json& entry, const std::string& path) {
  const std::string what = path + ": tensor " + quote(name);
  if (!entry.is_object()) fail(what + " is described by something other than a JSON object");
  for (const char* const key : {"dtype", "shape", "data_offsets"}) {
    if (!entry.contains(key)) fail(what + " has no \"" + key + "\"");
  }
  TensorInfo tensor;
  tensor.name = name;

  const json& dtype = entry["dtype"];
  if (!dtype.is_string()) fail(what + ": its dtype is not a string");
  const auto& dtype_text = dtype.get_ref<const std::string&>();
  const auto* row = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                 [&](const DtypeRow& candidate) { return dtype_text == candidate.name; });
  if (row == std::end(kDtypes)) {
    std::string known;
    for (const auto& candidate : kDtypes) known += (known.empty() ? "" : " ") + std::string(candidate.name);
    fail(what + " has the unknown dtype " + quote(dtype_text, 40) + " (known: " + known + ")");
  }
  tensor.dtype = row->dtype;

  const json& shape = entry["shape"];
  if (!shape.is_array()) fail(what + ": its shape is not an array");
  for (const json& size : shape) {
    if (!size.is_number_unsigned() ||
        size.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      fail(what + ": a size in its shape is not a whole number from 0 to 2^63 - 1");
    }
    tensor.shape.push_back(size.get<std::int64_t>());
  }

  const json& offsets = entry["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) fail(what + ": its data_offsets are not an array of two numbers");
  tensor.begin = offset_value(offsets[0], what);
  tensor.end = offset_value(offsets[1], what);
  if (tensor.begin > tensor.end) fail(what + ": its data ends before it begins");

  const std::uint64_t bytes = tensor_bytes(tensor.dtype, tensor.shape, what);
  if (bytes != tensor.bytes()) {
    fail(what + ", " + dtype_text + " " + shape_text(tensor.shape) + ", needs " + std::to_string(bytes) +
         " bytes but its data_offsets span " + std::to_string(tensor.bytes()));
  }
  return tensor;
}

// Ranges must follow each other and end with the file: then no byte is read twice or never.
void check_ranges(const std::vector<TensorInfo>& tensors, std::uint64_t data_bytes, const std::string& path) {
  std::uint64_t position = 0;
  for (const auto& tensor : tensors) {
    const std::string what = path + ": the data of tensor " + quote(tensor.name);
    if (tensor.begin < position) fail(what + " overlaps that of the tensor before it");
    if (tensor.begin > position) {
      fail(what + " begins " + std::to_string(tensor.begin - position) +
           " bytes after the end of the tensor before it (gaps are not allowed)");
    }
    if (tensor.end > data_bytes) {
      fail(path + " is truncated: tensor " + quote(tensor.name) + " ends at byte " + std::to_string(tensor.end) +
           " of the data, of which the file holds " + std::to_string(data_bytes) + " bytes");
    }
    position = tensor.end;
  }
  if (position != data_bytes) {
    fail(path + ": the file goes on for " + std::to_string(data_bytes - position) +
         " bytes after the last tensor that its header describes");
  }
}

}  // namespace

const char* dtype_name(TensorDtype dtype) { return dtype_row(dtype).name; }
int dtype_bits(TensorDtype dtype) { return dtype_row(dtype).bits; }

bool is_weight_dtype(TensorDtype dtype) {
  return dtype == TensorDtype::f64 || dtype == TensorDtype::f32 || dtype == TensorDtype::f16 ||
         dtype == TensorDtype::bf16;
}

const TensorInfo* SafetensorsHeader::find(std::string_view name) const {
  const auto it = std::find_if(tensors.begin(), tensors.end(), [&](const TensorInfo& t) { return t.name == name; });
  return it == tensors.end() ? nullptr : &*it;
}

std::uint64_t tensor_bytes(TensorDtype dtype, const std::vector<std::int64_t>& shape, const std::string& what) {
  std::uint64_t bits = static_cast<std::uint64_t>(dtype_bits(dtype));
  // A zero anywhere makes the tensor empty, whatever the other sizes; only without one can the product be too large.
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) bits = 0;
  for (const std::int64_t size : shape) {
    if (size < 0) fail(what + " has a negative size in its shape");
    if (bits != 0 && __builtin_mul_overflow(bits, static_cast<std::uint64_t>(size), &bits)) {
      fail(what + " has the shape " + shape_text(shape) + ", which is too large to address");
    }
  }
  if (bits % 8 != 0) fail(what + " does not fill a whole number of bytes");
  return bits / 8;
}

std::uint64_t parse_header_length(const unsigned char* first8, std::uint64_t file_bytes, const std::string& path) {
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | first8[i];
  if (length > kMaxHeaderBytes) {
    fail(path + " is not a safetensors file, or damaged: its header claims " + std::to_string(length) +
         " bytes (accepted: at most " + std::to_string(kMaxHeaderBytes) + ")");
  }
  if (length > file_bytes - 8) {
    fail(path + " is truncated, or not a safetensors file: its header claims " + std::to_string(length) +
         " bytes, the file holds " + std::to_string(file_bytes));
  }
  if (length < 2) fail(path + " is not a safetensors file: its header is " + std::to_string(length) + " bytes long");
  return length;
}

SafetensorsHeader parse_header(std::string_view text, std::uint64_t file_bytes, const std::string& path) {
  // The format says that a header begins with '{', so that a file of another kind is told apart at once.
  if (text.empty() || text.front() != '{')
    fail(path + " is not a safetensors file: its header does not begin with '{'");
  SafetensorsHeader header;
  header.data_begin = 8 + text.size();
  const json parsed = parse_json_object(text, path + ": the header");
  for (const auto& [name, entry] : parsed.items()) {
    if (name != "__metadata__") {
      header.tensors.push_back(parse_tensor(name, entry, path));
      continue;
    }
    if (!entry.is_object()) fail(path + ": the header's __metadata__ is not a JSON object");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) fail(path + ": the metadata entry " + quote(key) + " is not a string");
      header.metadata[key] = value.get<std::string>();
    }
  }
  std::sort(header.tensors.begin(), header.tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  check_ranges(header.tensors, file_bytes - header.data_begin, path);
  return header;
}

SafetensorsHeader parse_safetensors(std::string_view file, const std::string& path) {
  if (file.size() < 8) {
    fail(path + " is " + std::to_string(file.size()) + " bytes long: too short for a safetensors file");
  }
  const auto length = parse_header_length(reinterpret_cast<const unsigned char*>(file.data()), file.size(), path);
  return parse_header(file.substr(8, length), file.size(), path);
}

InputFile::InputFile(const std::string& path) : path_(path) {
  // Non-blocking, so that opening a FIFO returns at once and the check below can refuse it.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) fail("cannot open " + quote(path) + ": " + std::strerror(errno));
  struct stat status {};
  const bool known = ::fstat(descriptor_, &status) == 0;
  const char* refusal = nullptr;
  if (!known) {
    refusal = "cannot be examined";
  } else if (S_ISDIR(status.st_mode)) {
    refusal = "is a directory; name a file in it";
  } else if (!S_ISREG(status.st_mode)) {
    refusal = "is not a regular file";
  }
  if (refusal) {
    ::close(descriptor_);
    descriptor_ = -1;
    fail(quote(path) + " " + refusal);
  }
  bytes_ = static_cast<std::uint64_t>(status.st_size);
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(other.bytes_), descriptor_(std::exchange(other.descriptor_, -1)) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

void InputFile::read(std::uint64_t offset, void* out, std::size_t count) const {
  auto* target = static_cast<unsigned char*>(out);
  while (count > 0) {
    const std::size_t piece = std::min<std::size_t>(count, std::size_t{1} << 30);  // one call gives at most 2 GiB
    const ssize_t got = ::pread(descriptor_, target, piece, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot read " + quote(path_) + ": " + std::strerror(errno));
    if (got == 0) fail(quote(path_) + " became shorter while it was read");
    target += got;
    offset += static_cast<std::uint64_t>(got);
    count -= static_cast<std::size_t>(got);
  }
}

bool InputFile::is_same_file(const std::string& path) const {
  struct stat mine {
  }, theirs{};
  return ::fstat(descriptor_, &mine) == 0 && ::stat(path.c_str(), &theirs) == 0 && mine.st_dev == theirs.st_dev &&
         mine.st_ino == theirs.st_ino;
}

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path) {
  const std::string name = printable(path);
  if (file_.bytes() < 8) {
    fail(name + (file_.bytes() == 0 ? " is empty" : " is " + std::to_string(file_.bytes()) + " bytes long") +
         ": too short for a safetensors file");
  }
  unsigned char first8[8];
  file_.read(0, first8, sizeof first8);
  std::string text(parse_header_length(first8, file_.bytes(), name), '\0');
  file_.read(8, text.data(), text.size());
  header_ = parse_header(text, file_.bytes(), name);
}

void SafetensorsFile::read(const TensorInfo& tensor, std::uint64_t offset, void* out, std::size_t count) const {
  if (offset > tensor.bytes() || count > tensor.bytes() - offset) {
    fail(path() + ": a read past the end of tensor " + quote(tensor.name));
  }
  file_.read(header_.data_begin + tensor.begin + offset, out, count);
}

std::vector<unsigned char> SafetensorsFile::read_all(const TensorInfo& tensor) const {
  std::vector<unsigned char> bytes(tensor.bytes());
  read(tensor, 0, bytes.data(), bytes.size());
  return bytes;
}

}  // namespace triage::io
