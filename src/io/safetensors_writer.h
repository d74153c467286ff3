// Writing of safetensors files, all or nothing.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/atomic_file.h"
#include "io/safetensors.h"

namespace triage::io {

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
