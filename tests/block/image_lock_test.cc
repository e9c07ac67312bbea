// Two machines never write one image: among ourselves, and with QEMU's tools.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>

#include "block/image_file.h"
#include "block/image_tool.h"
#include "block/raw_image.h"
#include "block/scratch.h"

namespace limen::block {
namespace {

constexpr OpenOptions kReader{.read_only = true};
constexpr OpenOptions kWriter{};

/// What another process gets from opening the image.
bool another_process_opens(const std::string& path, const OpenOptions& options) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(RawImage::open(path, options) ? 0 : 1);
  int status = 0;
  ::waitpid(child, &status, 0);
  return status == 0;
}

struct Outcome {
  int status = 0;
  std::string said;
};
Outcome shell(const std::string& command) {
  Outcome outcome;
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  char buffer[256];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) outcome.said += buffer;
  outcome.status = ::pclose(pipe);
  return outcome;
}

bool has_text(const std::string& path) {
  std::error_code missing;
  const auto size = std::filesystem::file_size(path, missing);
  return !missing && size > 0;
}

bool has_qemu_tools() { return shell("command -v qemu-io && command -v qemu-img").status == 0; }

TEST(ImageLock, WriterKeepsEveryoneElseOut) {
  const ScratchFolder folder;
  const auto path = folder.image("disk", 4096);
  auto writer = RawImage::open(path, kWriter).value();
  EXPECT_FALSE(another_process_opens(path, kWriter));
  EXPECT_FALSE(another_process_opens(path, kReader));
  EXPECT_TRUE(another_process_opens(path, {.read_only = true, .lock = false}));
  writer.reset();
  EXPECT_TRUE(another_process_opens(path, kWriter));
}

TEST(ImageLock, ReadersShareAndKeepWritersOut) {
  const ScratchFolder folder;
  const auto path = folder.image("disk", 4096);
  const auto reader = RawImage::open(path, kReader).value();
  EXPECT_TRUE(another_process_opens(path, kReader));
  EXPECT_FALSE(another_process_opens(path, kWriter));
}

TEST(ImageLock, OneProcessCannotOpenItTwiceForWritingEither) {
  const ScratchFolder folder;
  const auto path = folder.image("disk", 4096);
  const auto writer = RawImage::open(path, kWriter).value();
  const auto second = RawImage::open(path, kWriter);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find(path), std::string::npos);
  EXPECT_NE(second.error().message.find("another process using the image"), std::string::npos);
}

TEST(ImageLock, HoldsWithDirectInputOutput) {
  const ScratchFolder folder;
  const auto path = folder.image("disk", 4096);
  const auto writer = RawImage::open(path, {.cache = CacheMode::kNone});
  if (!writer) GTEST_SKIP() << writer.error().message;
  EXPECT_FALSE(another_process_opens(path, kWriter));
}

TEST(ImageLock, KeepsQemuOut) {
  if (!has_qemu_tools()) GTEST_SKIP() << "qemu-utils not installed";
  const ScratchFolder folder;
  const auto path = folder.image("disk", 4096);
  const std::string write = "qemu-io -f raw -c 'write 0 512' '" + path + "'";
  const std::string info = "qemu-img info -f raw '" + path + "'";
  auto image = RawImage::open(path, kWriter).value();
  const auto outcome = shell(write);
  EXPECT_NE(outcome.said.find("Failed to get \"write\" lock"), std::string::npos) << outcome.said;
  EXPECT_NE(outcome.status, 0);
  EXPECT_EQ(shell(info).status, 0);
  image = RawImage::open(folder.image("other", 4096), kWriter).value();
  EXPECT_EQ(shell(write).status, 0);
  image = RawImage::open(path, kReader).value();
  EXPECT_NE(shell(write).status, 0);
  EXPECT_EQ(shell(info).status, 0) << shell(info).said;
}

TEST(ImageLock, IsKeptOutByQemu) {
  if (!has_qemu_tools()) GTEST_SKIP() << "qemu-utils not installed";
  const ScratchFolder folder;
  const auto path = folder.image("disk", 4096);
  // qemu-io has the image open as long as its standard input is, and prompts when it has.
  const std::string command = "qemu-io -f raw '" + path + "' >'" + path + ".said' 2>&1";
  std::FILE* qemu = ::popen(command.c_str(), "w");
  ASSERT_NE(qemu, nullptr);
  for (int i = 0; i < 500 && !has_text(path + ".said"); ++i) ::usleep(10'000);
  const auto image = RawImage::open(path, kWriter);
  EXPECT_FALSE(image);
  const auto examined = open_image_file(path, O_RDONLY).value();
  EXPECT_TRUE(lock_image(examined, path, Access::kExamine));
  EXPECT_FALSE(resize_image(path, "+1k", false));
  ::pclose(qemu);
  EXPECT_TRUE(RawImage::open(path, kWriter));
}

}  // namespace
}  // namespace limen::block
