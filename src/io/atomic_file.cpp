#include "io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "io/text.h"
#include "triage/error.h"

namespace triage::io {
namespace {

// The temporary file of the write under way. A signal handler reads it, hence a plain array.
char unfinished_file[4096] = "";

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
  temporary_ = target_ + ".unfinished-XXXXXX";
  descriptor_ = ::mkstemp(temporary_.data());
  if (descriptor_ < 0) {
    temporary_.clear();
    fail("create");
  }
  if (temporary_.size() < sizeof unfinished_file) {
    std::memcpy(unfinished_file, temporary_.c_str(), temporary_.size() + 1);
  }
  const mode_t mask = ::umask(0);
  ::umask(mask);
  ::fchmod(descriptor_, 0666 & ~mask);  // mkstemp keeps the file private
  // fallocate, not posix_fallocate: the latter writes zeros where the file system cannot reserve.
  if (expected_bytes > 0 && ::fallocate(descriptor_, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(expected_bytes)) != 0 &&
      (errno == ENOSPC || errno == EFBIG || errno == EDQUOT)) {
    const int reason = errno;
    ::close(descriptor_);
    discard();
    throw Error(ErrorCode::invalid_argument, "cannot write " + quote(path) + ", which would be " +
                                                 bytes_text(expected_bytes) + " long: " + std::strerror(reason));
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) discard();
}

void AtomicFile::discard() noexcept {
  ::unlink(temporary_.c_str());
  forget();
}

void AtomicFile::forget() noexcept {
  if (temporary_ == unfinished_file) unfinished_file[0] = '\0';
  temporary_.clear();
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
  forget();
  // The rename itself is on the disk once the directory is. Not every file system can; the data is safe either way.
  const std::string directory = std::filesystem::path(target_).parent_path().string();
  const int handle = ::open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle >= 0) {
    ::fsync(handle);
    ::close(handle);
  }
}

void remove_unfinished_file() noexcept {
  if (unfinished_file[0] != '\0') ::unlink(unfinished_file);
  unfinished_file[0] = '\0';
}

}  // namespace triage::io
