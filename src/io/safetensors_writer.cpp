#include "io/safetensors_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
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

AtomicFile::AtomicFile(const std::string& path, std::uint64_t expected_bytes) {
  std::error_code error;
  const std::filesystem::path resolved = std::filesystem::weakly_canonical(path, error);
  target_ = error || resolved.empty() ? path : resolved.string();
  struct stat status {};
  if (::stat(target_.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    throw Error(ErrorCode::invalid_argument, "cannot write " + quote(path) + ": it is " +
                                                 (S_ISDIR(status.st_mode) ? "a directory" : "no regular file"));
  }
  temporary_ = target_ + ".XXXXXX";
  descriptor_ = ::mkstemp(temporary_.data());
  if (descriptor_ < 0) {
    temporary_.clear();
    fail("create");
  }
  const mode_t mask = ::umask(0);
  ::umask(mask);
  ::fchmod(descriptor_, 0666 & ~mask);  // mkstemp keeps the file private
  // fallocate, not posix_fallocate: the latter writes zeros where the file system cannot reserve.
  if (expected_bytes > 0 && ::fallocate(descriptor_, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(expected_bytes)) != 0 &&
      (errno == ENOSPC || errno == EFBIG || errno == EDQUOT)) {
    const int reason = errno;
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
    throw Error(ErrorCode::invalid_argument, "cannot write " + quote(path) + ", which would be " +
                                                 bytes_text(expected_bytes) + " long: " + std::strerror(reason));
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* action) const {
  throw Error(ErrorCode::invalid_argument,
              std::string("cannot ") + action + " " + quote(target_) + ": " + std::strerror(errno));
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  const auto* source = static_cast<const unsigned char*>(data);
  while (bytes > 0) {
    const ssize_t done = ::write(descriptor_, source, std::min<std::size_t>(bytes, std::size_t{1} << 30));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail("write");
    source += done;
    bytes -= static_cast<std::size_t>(done);
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail("write");
  const int descriptor = descriptor_;
  descriptor_ = -1;
  if (::close(descriptor) != 0) fail("write");  // where network file systems report what they could not store
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("create");
  temporary_.clear();
  // The rename itself is on the disk once the directory is. Not every file system can; the data is safe either way.
  const std::string directory = std::filesystem::path(target_).parent_path().string();
  const int handle = ::open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle >= 0) {
    ::fsync(handle);
    ::close(handle);
  }
}

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
