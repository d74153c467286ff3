#include "fuzz/parsers.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "io/safetensors_model.h"
#include "io/safetensors_writer.h"
#include "triage/error.h"
#include "triage/io.h"

namespace triage::fuzz {
namespace {

void promise(bool kept, const char* what) {
  if (kept) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

template <class Parse>
Answer answer_of(Parse parse) {
  try {
    parse();
    return Answer::accepted;
  } catch (const Error& error) {
    promise(error.code() == ErrorCode::invalid_argument, "bad input is an invalid argument");
    promise(std::string_view(error.what()).size() > 10, "an error is a sentence");
    promise(std::string_view(error.what()).find('\n') == std::string_view::npos, "a sentence is one line");
    return Answer::refused;
  }
}

// Bytes as a file with a path, without a disk.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    promise(descriptor_ >= 0, "memfd_create works");
    promise(::write(descriptor_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()), "write works");
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

std::string with_length(const std::string& json, const std::string& data) {
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>(json.size() >> 8 * i & 0xFF);
  return file + json + data;
}

}  // namespace

Answer parse_safetensors_file(std::string_view bytes) {
  return answer_of([&] {
    const io::SafetensorsHeader header = io::parse_safetensors(bytes, "fuzz.safetensors");
    std::uint64_t position = 0;
    for (const auto& tensor : header.tensors) {
      promise(tensor.begin == position && tensor.end >= tensor.begin, "tensors follow each other");
      promise(tensor.bytes() == io::tensor_bytes(tensor.dtype, tensor.shape, tensor.name), "ranges fit the shapes");
      promise(header.find(tensor.name) == &tensor, "names are unique");
      position = tensor.end;
    }
    promise(header.data_begin + position == bytes.size(), "tensors cover the file");
    const MemoryFile file(bytes);
    const io::SafetensorsFile opened(file.path());
    for (const auto& tensor : opened.header().tensors) {
      const std::string_view expected = bytes.substr(header.data_begin + tensor.begin, tensor.bytes());
      const auto data = opened.read_all(tensor);
      promise(std::string_view(reinterpret_cast<const char*>(data.data()), data.size()) == expected, "data is read");
    }
  });
}

Answer parse_index_file(std::string_view bytes) {
  return answer_of([&] {
    const auto map = io::parse_index(bytes, "fuzz.safetensors.index.json");
    promise(!map.empty(), "an index names tensors");
    for (const auto& [tensor, file] : map) {
      promise(!file.empty() && file != ".." && file.find('/') == std::string::npos, "an index stays in its directory");
    }
  });
}

Answer parse_block_sparse_file(std::string_view bytes) {
  return answer_of([&] {
    const MemoryFile file(bytes);
    for (const auto& name : block_sparse_names(file.path())) {
      const BlockSparseMatrix matrix = load_block_sparse(file.path(), name);
      const auto* crow = static_cast<const std::int32_t*>(matrix.pattern.crow_indices().data);
      const auto* col = static_cast<const std::int32_t*>(matrix.pattern.col_indices().data);
      promise(crow[0] == 0 && crow[matrix.pattern.block_rows()] == matrix.pattern.nnz_blocks(),
              "rows cover the blocks");
      for (std::int64_t row = 0; row < matrix.pattern.block_rows(); ++row) {
        promise(crow[row] <= crow[row + 1], "row pointers never fall");
        for (std::int32_t i = crow[row]; i < crow[row + 1]; ++i) {
          promise(col[i] >= 0 && col[i] < matrix.pattern.block_cols(), "columns are in range");
          promise(i == crow[row] || col[i - 1] < col[i], "columns ascend");
        }
      }
      promise(matrix.values.shape[0] == matrix.pattern.nnz_blocks(), "one value block for each block");
    }
  });
}

std::string_view safetensors_seed() {
  static const std::string seed = with_length(
      R"({"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},"c":{"dtype":"I64","shape":[],"data_offsets":[32,40]},)"
      R"("d":{"dtype":"F8_E4M3","shape":[0,7],"data_offsets":[40,40]}}   )",
      std::string(40, '\x3f'));
  return seed;
}

std::string_view index_seed() {
  return R"({"metadata":{"total_size":64},"weight_map":{"a.weight":"model-00001-of-00002.safetensors",)"
         R"("b.weight":"model-00002-of-00002.safetensors","layer.10.c":"model-00002-of-00002.safetensors"}})";
}

std::string_view block_sparse_seed() {
  static const std::string seed = [] {
    // 40 x 50 in blocks of 16: 3 x 4 blocks of which 3 exist.
    constexpr std::int32_t crow[] = {0, 2, 2, 3}, col[] = {0, 3, 1};
    std::string data(3 * 16 * 16 * 2, '\x3c');
    data.append(reinterpret_cast<const char*>(col), sizeof col);
    data.append(reinterpret_cast<const char*>(crow), sizeof crow);
    return with_length(
        R"({"__metadata__":{"format":"triage.block_sparse","version":"1","block_sparse":"{\"w\":{\"shape\":[40,50],)"
        R"(\"block\":16}}"},"w.values":{"dtype":"F16","shape":[3,16,16],"data_offsets":[0,1536]},)"
        R"("w.col_indices":{"dtype":"I32","shape":[3],"data_offsets":[1536,1548]},)"
        R"("w.crow_indices":{"dtype":"I32","shape":[4],"data_offsets":[1548,1564]}})",
        data);
  }();
  return seed;
}

}  // namespace triage::fuzz
