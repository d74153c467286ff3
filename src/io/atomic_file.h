// Writing of files, all or nothing: the data goes to a temporary file beside the target, which takes the target's name
// only when every byte is on the disk. Whatever goes wrong before that leaves no trace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

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
  void discard() noexcept;
  void forget() noexcept;
  std::string target_, temporary_;
  int descriptor_ = -1;
};

/// Removes the temporary file of the AtomicFile that was opened last, if it still is; async-signal-safe.
void remove_unfinished_file() noexcept;

}  // namespace triage::io
