#include "io/safetensors_writer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "io/text.h"
#include "triage/error.h"

namespace triage::io {
namespace {

std::vector<TensorInfo> laid_out(std::vector<TensorInfo> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    const int bits_a = dtype_bits(a.dtype), bits_b = dtype_bits(b.dtype);
    return std::tie(bits_b, a.name) < std::tie(bits_a, b.name);
  });
  std::uint64_t position = 0;
  for (auto& tensor : tensors) {
    tensor.begin = position;
    position += tensor_bytes(tensor.dtype, tensor.shape, "tensor " + quote(tensor.name));
    tensor.end = position;
  }
  return tensors;
}

// The 8-byte length and the JSON, padded with spaces so that the data begins at a multiple of 8.
std::string header_bytes(const std::vector<TensorInfo>& tensors, const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string> names;
  for (const auto& tensor : tensors) {
    if (tensor.name == "__metadata__" || !names.insert(tensor.name).second) {
      throw Error(ErrorCode::invalid_argument, "the name " + quote(tensor.name) +
                                                   (tensor.name == "__metadata__" ? " is reserved by the file format"
                                                                                  : " would stand in the file twice"));
    }
    // push_back, not operator[]: an ordered_json looks a key up by walking over all of them.
    header.get_ptr<nlohmann::ordered_json::object_t*>()->emplace_back(
        tensor.name, nlohmann::ordered_json{{"dtype", dtype_name(tensor.dtype)},
                                            {"shape", tensor.shape},
                                            {"data_offsets", {tensor.begin, tensor.end}}});
  }
  std::string json;
  try {
    json = header.dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorCode::invalid_argument, "a tensor's name or a metadata entry is not valid UTF-8");
  }
  json.resize((json.size() + 7) / 8 * 8, ' ');
  if (json.size() > kMaxHeaderBytes) {
    throw Error(ErrorCode::invalid_argument, "the header would be " + std::to_string(json.size()) +
                                                 " bytes long (accepted: at most " + std::to_string(kMaxHeaderBytes) +
                                                 ")");
  }
  std::string length;
  for (int i = 0; i < 8; ++i) length += static_cast<char>(json.size() >> 8 * i & 0xFF);
  return length + json;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::string& path, std::vector<TensorInfo> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : tensors_(laid_out(std::move(tensors))),
      header_(header_bytes(tensors_, metadata)),
      file_bytes_(header_.size() + (tensors_.empty() ? 0 : tensors_.back().end)),
      file_(path, file_bytes_) {
  file_.write(header_.data(), header_.size());
  written_ = header_.size();
}

void SafetensorsWriter::append(const void* data, std::size_t bytes) {
  if (bytes > file_bytes_ - written_) {
    throw Error(ErrorCode::invalid_argument, "more data than the header of the file announces");
  }
  file_.write(data, bytes);
  written_ += bytes;
}

void SafetensorsWriter::commit() {
  if (written_ != file_bytes_) {
    throw Error(ErrorCode::invalid_argument, "less data than the header of the file announces");
  }
  file_.commit();
}

}  // namespace triage::io
