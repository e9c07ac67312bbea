// When a flush reaches the host's disk, and what survives the death of the process.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <atomic>
#include <cerrno>
#include <csignal>

#include "block/raw_image.h"
#include "block/scratch.h"

namespace {
std::atomic<int> fdatasync_calls = 0;
std::atomic<int> fdatasync_error = 0;
}  // namespace

// Stands before the C library's.
extern "C" int fdatasync(int fd) {
  ++fdatasync_calls;
  if (const int error = fdatasync_error.exchange(0); error != 0) {
    errno = error;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_fdatasync, fd));
}

namespace limen::block {
namespace {

const std::vector<uint8_t> kSector(512, 0x5A);

int flush(BlockDevice& device) { return run(device, {.kind = Request::Kind::kFlush}); }

int flushes_of(CacheMode cache) {
  const ScratchFolder folder;
  auto image = RawImage::open(folder.image("disk", 4096), {.cache = cache});
  if (!image) return -1;
  fdatasync_calls = 0;
  EXPECT_EQ(write_at(**image, 0, kSector), 0);
  EXPECT_EQ(fdatasync_calls, 0);
  EXPECT_EQ(flush(**image), 0);
  return fdatasync_calls;
}

TEST(Flush, ReachesTheDiskInEveryModeButUnsafe) {
  EXPECT_EQ(flushes_of(CacheMode::kWriteback), 1);
  EXPECT_EQ(flushes_of(CacheMode::kWritethrough), 1);
  EXPECT_EQ(flushes_of(CacheMode::kUnsafe), 0);
  if (const int direct = flushes_of(CacheMode::kNone); direct >= 0) {
    EXPECT_EQ(direct, 1);
  }
}

TEST(Flush, WritethroughOpensForSynchronousWritesAndSyncsDiscards) {
  const ScratchFolder folder;
  const auto path = folder.image("disk", 1 << 20);
  const auto image = RawImage::open(path, {.cache = CacheMode::kWritethrough}).value();
  bool synchronous = false;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(entry.path(), gone) == path && !gone)
      synchronous = (::fcntl(std::stoi(entry.path().filename()), F_GETFL) & O_DSYNC) != 0;
  }
  EXPECT_TRUE(synchronous);
  fdatasync_calls = 0;
  EXPECT_EQ(run(*image, {.kind = Request::Kind::kDiscard, .length = 4096}), 0);
  EXPECT_EQ(fdatasync_calls, 1);
}

TEST(Flush, FailureIsReportedAndNeverForgotten) {
  const ScratchFolder folder;
  const auto image = RawImage::open(folder.image("disk", 4096), {}).value();
  EXPECT_EQ(write_at(*image, 0, kSector), 0);
  fdatasync_error = ENOSPC;
  EXPECT_EQ(flush(*image), ENOSPC);
  EXPECT_EQ(flush(*image), EIO);
  const auto drained = image->drain();
  ASSERT_FALSE(drained);
  EXPECT_NE(drained.error().message.find("flushing image"), std::string::npos);
}

TEST(Flush, WhatWasFlushedIsInTheFileAfterKill9) {
  const ScratchFolder folder;
  constexpr uint64_t kSectors = 4096;
  const auto path = folder.image("disk", kSectors * 512);
  int report[2];
  ASSERT_EQ(::pipe(report), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto image = RawImage::open(path, {}).value();
    for (uint64_t i = 0;; ++i) {
      std::vector<uint8_t> sector(512, static_cast<uint8_t>(i % 255 + 1));
      if (write_at(*image, i % kSectors * 512, sector) != 0 || flush(*image) != 0) ::_exit(1);
      if (::write(report[1], &i, sizeof i) != sizeof i) ::_exit(1);
    }
  }
  ::close(report[1]);
  uint64_t last = 0;
  while (last < 20 && ::read(report[0], &last, sizeof last) == sizeof last) {
  }
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  while (::read(report[0], &last, sizeof last) == sizeof last) {
  }
  ::close(report[0]);
  ASSERT_GE(last, 20u);
  // The lock died with the process.
  const auto image = RawImage::open(path, {}).value();
  for (uint64_t i = last >= kSectors ? last - kSectors + 2 : 0; i <= last; ++i)
    ASSERT_EQ(read_at(*image, i % kSectors * 512, 512),
              std::vector<uint8_t>(512, static_cast<uint8_t>(i % 255 + 1)))
        << i;
}

}  // namespace
}  // namespace limen::block
