// The safetensors writer: what it writes the reader reads, and a failure leaves nothing behind.
#include "io/safetensors_writer.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "unit/safetensors_files.h"

namespace triage::io {
namespace {

using test::expect_refusal;

std::vector<TensorInfo> tensors() {
  return {{"b", TensorDtype::u8, {3}, 0, 0}, {"z", TensorDtype::f64, {1, 2}, 0, 0}, {"ä", TensorDtype::f16, {5}, 0, 0}};
}

void write(const std::string& path) {
  SafetensorsWriter writer(path, tensors(), {{"who", "test"}});
  for (const auto& tensor : writer.tensors()) {
    const std::string data(tensor.bytes(), tensor.name[0]);
    writer.append(data.data(), 1);
    writer.append(data.data() + 1, data.size() - 1);
  }
  writer.commit();
}

TEST(SafetensorsWriter, TheReaderReadsItBack) {
  const test::TemporaryDirectory directory;
  const std::string path = directory.file("a.safetensors");
  write(path);
  const SafetensorsFile file(path);
  ASSERT_EQ(file.header().tensors.size(), 3u);
  EXPECT_EQ(file.header().tensors[0].name, "z");  // the widest elements first, so that all are aligned
  EXPECT_EQ(file.header().tensors[1].name, "ä");
  EXPECT_EQ(file.header().data_begin % 8, 0u);
  EXPECT_EQ(file.header().metadata.at("who"), "test");
  EXPECT_EQ(file.header().find("z")->shape, (std::vector<std::int64_t>{1, 2}));
  for (const auto& tensor : file.header().tensors) {
    const auto data = file.read_all(tensor);
    EXPECT_EQ(std::string(data.begin(), data.end()), std::string(tensor.bytes(), tensor.name[0]));
  }
  EXPECT_EQ(directory.entries(), 1u);
}

TEST(SafetensorsWriter, ReplacesAFileAndFollowsALink) {
  const test::TemporaryDirectory directory;
  test::write_bytes(directory.file("real"), "old");
  std::filesystem::create_symlink("real", directory.file("link"));
  write(directory.file("link"));
  EXPECT_TRUE(std::filesystem::is_symlink(directory.file("link")));
  EXPECT_EQ(SafetensorsFile(directory.file("real")).header().tensors.size(), 3u);
  struct stat status {};
  ASSERT_EQ(::stat(directory.file("real").c_str(), &status), 0);
  const mode_t mask = ::umask(0);
  ::umask(mask);
  EXPECT_EQ(status.st_mode & 0777, 0666 & ~mask);
}

TEST(SafetensorsWriter, LeavesNothingUnlessCommitted) {
  const test::TemporaryDirectory directory;
  const std::string path = directory.file("a.safetensors");
  test::write_bytes(path, "old");
  {
    SafetensorsWriter writer(path, tensors(), {});
    writer.append("x", 1);
    expect_refusal([&] { writer.commit(); }, "less data");
    const std::string much(100, 'x');
    expect_refusal([&] { writer.append(much.data(), much.size()); }, "more data");
  }
  EXPECT_EQ(test::read_bytes(path), "old");
  EXPECT_EQ(directory.entries(), 1u);
}

// A limit on file sizes stands in for a full disk: the same calls fail, with EFBIG in the place of ENOSPC.
TEST(SafetensorsWriter, AFullDiskLeavesTheOldFile) {
  for (const bool reserve : {true, false}) {
    const test::TemporaryDirectory directory;
    const std::string path = directory.file("a");
    test::write_bytes(path, "old");
    const pid_t child = ::fork();
    if (child == 0) {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{4096, 4096};
      if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(3);
      try {
        AtomicFile file(path, reserve ? 100'000 : 0);
        const std::string data(100'000, 'x');
        file.write(data.data(), data.size());
        file.commit();
        ::_exit(1);
      } catch (const Error& error) {
        ::_exit(std::string(error.what()).find("File too large") != std::string::npos ? 0 : 2);
      }
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << "reserve: " << reserve;
    EXPECT_EQ(test::read_bytes(path), "old");
    EXPECT_EQ(directory.entries(), 1u);
  }
}

TEST(SafetensorsWriter, RefusesWhatCannotBeWritten) {
  const test::TemporaryDirectory directory;
  expect_refusal([&] { write(directory.file("absent/a")); }, "No such file or directory");
  expect_refusal([&] { write(directory.path()); }, "is a directory");
  expect_refusal([&] { write("/dev/full"); }, "no regular file");
  expect_refusal([&] { write(""); }, "No such file");
  const auto with = [&](TensorInfo tensor) {
    return [&directory, tensor] { SafetensorsWriter(directory.file("a"), {tensor, tensor}, {}); };
  };
  expect_refusal(with({"t", TensorDtype::u8, {1}, 0, 0}), "'t' would stand in the file twice");
  expect_refusal(with({"__metadata__", TensorDtype::u8, {1}, 0, 0}), "reserved");
  expect_refusal(with({"t", TensorDtype::u8, {-1}, 0, 0}), "negative");
  expect_refusal([&] { SafetensorsWriter(directory.file("a"), {{"\xff", TensorDtype::u8, {1}, 0, 0}}, {}); }, "UTF-8");
  EXPECT_EQ(directory.entries(), 0u);
}

}  // namespace
}  // namespace triage::io
