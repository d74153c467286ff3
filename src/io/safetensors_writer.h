// Writing of safetensors files, all or nothing: the data goes to a temporary file beside the target, which takes the
// target's name only when every byte is on the disk. Whatever goes wrong before that leaves no trace.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace triage::io {

/// A file that appears under its name only on `commit`. Errors are triage::Error with a sentence ("No space left on
/// device" among them).
class AtomicFile {
 public:
  /// Opens a temporary file in the directory of `path`. A symbolic link is followed: its target is replaced.
  /// @param expected_bytes is reserved on the disk now, where the file system can, so that a full disk shows at once.
  AtomicFile(const std::string& path, std::uint64_t expected_bytes);
  ~AtomicFile();  ///< Removes the temporary file unless it was committed.
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes);
  /// Flushes to the disk, then renames.
  void commit();

 private:
  [[noreturn]] void fail(const char* action) const;
  std::string target_, temporary_;
  int descriptor_ = -1;
};

/// Writes one file: the header at once, then the tensors' data in the order of `tensors()`.
class SafetensorsWriter {
 public:
  /// @param tensors names, dtypes and shapes; `begin` and `end` are filled in here. Sorted by falling element size,
  /// then
  ///   by name, so that every tensor is aligned to its element.
  SafetensorsWriter(const std::string& path, std::vector<TensorInfo> tensors,
                    const std::map<std::string, std::string>& metadata);

  /// The tensors in the order in which their data must be written.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  std::uint64_t file_bytes() const { return file_bytes_; }
  /// Appends data. Calls may cut a tensor anywhere.
  void append(const void* data, std::size_t bytes);
  /// Throws if the data written is not as long as the header says.
  void commit();

 private:
  std::vector<TensorInfo> tensors_;
  std::string header_;
  std::uint64_t file_bytes_ = 0, written_ = 0;
  AtomicFile file_;
};

}  // namespace triage::io
