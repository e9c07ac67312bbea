#include "block/raw_image.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <fstream>
#include <random>

#include "block/scratch.h"

namespace limen::block {
namespace {

constexpr uint64_t kMegabyte = uint64_t{1} << 20;

std::unique_ptr<RawImage> open_image(const std::string& path, const OpenOptions& options = {}) {
  auto image = RawImage::open(path, options);
  EXPECT_TRUE(image) << image.error().message;
  return image ? std::move(*image) : nullptr;
}

/// Whether the file system under the tests has O_DIRECT.
bool direct_works(const std::string& path) {
  return RawImage::open(path, {.cache = CacheMode::kNone, .lock = false}).has_value();
}

TEST(RawImage, ReadsBackWhatWasWrittenAcrossScatteredBuffers) {
  const ScratchFolder folder;
  const auto image = open_image(folder.image("disk", kMegabyte));
  std::vector<uint8_t> first(512, 1), second(1536, 2), third(2048, 3);
  EXPECT_EQ(run(*image,
                {
                    .kind = Request::Kind::kWrite,
                    .offset = 4096,
                    .buffers = {buffer_of(first), buffer_of(second), buffer_of(third)},
                }),
            0);
  const auto all = read_at(*image, 4096, 4096);
  EXPECT_EQ(all[511], 1);
  EXPECT_EQ(all[512], 2);
  EXPECT_EQ(all[2047], 2);
  EXPECT_EQ(all[2048], 3);
  EXPECT_EQ(read_at(*image, 0, 512), std::vector<uint8_t>(512, 0));
}

TEST(RawImage, MoreBuffersThanOneSystemCallTakesAreAllWritten) {
  const ScratchFolder folder;
  const auto image = open_image(folder.image("disk", 2 * kMegabyte));
  std::vector<std::vector<uint8_t>> pieces(1500);
  Request request{.kind = Request::Kind::kWrite};
  for (size_t i = 0; i < pieces.size(); ++i) {
    pieces[i].assign(512, static_cast<uint8_t>(i % 251));
    request.buffers.push_back(buffer_of(pieces[i]));
  }
  EXPECT_EQ(run(*image, request), 0);
  for (const size_t i : {0, 1023, 1024, 1499})
    EXPECT_EQ(read_at(*image, 512 * i, 512), pieces[i]) << i;
}

TEST(RawImage, RequestsBeyondTheEndFailWithEio) {
  const ScratchFolder folder;
  const auto path = folder.image("disk", kMegabyte);
  const auto image = open_image(path);
  EXPECT_EQ(write_at(*image, kMegabyte - 512, std::vector<uint8_t>(1024)), EIO);
  EXPECT_EQ(write_at(*image, UINT64_MAX - 511, std::vector<uint8_t>(512)), EIO);
  for (const auto kind : {Request::Kind::kDiscard, Request::Kind::kWriteZeroes})
    EXPECT_EQ(run(*image, {.kind = kind, .offset = 512, .length = kMegabyte}), EIO);
  EXPECT_EQ(std::filesystem::file_size(path), kMegabyte);
}

TEST(RawImage, ReadOnlyRefusesEveryChange) {
  const ScratchFolder folder;
  const auto image = open_image(folder.image("disk", kMegabyte), {.read_only = true});
  EXPECT_TRUE(image->read_only());
  EXPECT_FALSE(image->supports_discard());
  EXPECT_EQ(write_at(*image, 0, std::vector<uint8_t>(512)), EROFS);
  EXPECT_EQ(run(*image, {.kind = Request::Kind::kDiscard, .length = 512}), EROFS);
  EXPECT_EQ(run(*image, {.kind = Request::Kind::kFlush}), 0);
}

TEST(RawImage, DiscardGivesTheSpaceBackAndReadsAsZeroes) {
  const ScratchFolder folder;
  const auto path = folder.image("disk", 8 * kMegabyte);
  const auto image = open_image(path);
  EXPECT_LE(allocated(path), 4096u);
  EXPECT_EQ(write_at(*image, 0, std::vector<uint8_t>(4 * kMegabyte, 7)), 0);
  EXPECT_TRUE(image->drain());
  EXPECT_GE(allocated(path), 4 * kMegabyte);
  EXPECT_EQ(run(*image, {.kind = Request::Kind::kDiscard, .length = 4 * kMegabyte}), 0);
  EXPECT_LT(allocated(path), kMegabyte);
  EXPECT_EQ(read_at(*image, kMegabyte, 4096), std::vector<uint8_t>(4096, 0));
  EXPECT_EQ(std::filesystem::file_size(path), 8 * kMegabyte);
}

TEST(RawImage, DiscardIsIgnoredWhenAskedTo) {
  const ScratchFolder folder;
  const auto image = open_image(folder.image("disk", kMegabyte), {.discard_unmap = false});
  EXPECT_EQ(write_at(*image, 0, std::vector<uint8_t>(4096, 7)), 0);
  EXPECT_EQ(run(*image, {.kind = Request::Kind::kDiscard, .length = 4096}), 0);
  EXPECT_EQ(read_at(*image, 0, 4096), std::vector<uint8_t>(4096, 7));
}

/// Write-zeroes on the file system of `parent`: on a disk by ZERO_RANGE, on tmpfs by writing.
void expect_zeroes(const std::string& parent, bool may_unmap) {
  const ScratchFolder folder(parent);
  const auto path = folder.image("disk", 8 * kMegabyte);
  const auto image = open_image(path);
  ASSERT_EQ(write_at(*image, 0, std::vector<uint8_t>(4 * kMegabyte, 7)), 0);
  ASSERT_TRUE(image->drain());
  EXPECT_EQ(run(*image,
                {
                    .kind = Request::Kind::kWriteZeroes,
                    .offset = 512,
                    .length = 3 * kMegabyte,
                    .may_unmap = may_unmap,
                }),
            0);
  EXPECT_EQ(read_at(*image, 0, 512), std::vector<uint8_t>(512, 7));
  EXPECT_EQ(read_at(*image, 512, 3 * kMegabyte), std::vector<uint8_t>(3 * kMegabyte, 0));
  EXPECT_EQ(read_at(*image, 3 * kMegabyte + 512, 512), std::vector<uint8_t>(512, 7));
  if (may_unmap)
    EXPECT_LT(allocated(path), 2 * kMegabyte);
  else
    EXPECT_GE(allocated(path), 3 * kMegabyte);
}

TEST(RawImage, WriteZeroesKeepsTheSpaceUnlessItMayUnmap) {
  expect_zeroes(".", false);
  expect_zeroes(".", true);
}

TEST(RawImage, WriteZeroesWorksWhereTheFileSystemHasNoZeroRange) {
  expect_zeroes("/dev/shm", false);
}

TEST(RawImage, DirectInputOutputTakesAnyBufferAndAnySector) {
  const ScratchFolder folder;
  // Not a multiple of 4096: the last block is partial whatever the disk's block size is.
  const auto path = folder.image("disk", kMegabyte + 1536);
  if (!direct_works(path)) GTEST_SKIP() << "no O_DIRECT here";
  for (const auto cache : {CacheMode::kNone, CacheMode::kDirectSync}) {
    const auto image = open_image(path, {.cache = cache});
    std::mt19937 random(1);
    std::vector<uint8_t> expected(kMegabyte + 1536);
    for (auto& byte : expected) byte = static_cast<uint8_t>(random());
    ASSERT_EQ(write_at(*image, 0, expected), 0);
    for (int i = 0; i < 60; ++i) {
      const size_t sectors = expected.size() / 512;
      const size_t first = random() % sectors;
      const size_t count = 1 + random() % std::min<size_t>(sectors - first, 24);
      // Off by one byte in memory, every second time.
      std::vector<uint8_t> storage(512 * count + 1, static_cast<uint8_t>(i));
      const iovec buffer{storage.data() + i % 2, 512 * count};
      ASSERT_EQ(run(*image,
                    {
                        .kind = Request::Kind::kWrite,
                        .offset = 512 * first,
                        .buffers = {buffer},
                    }),
                0);
      std::fill_n(expected.begin() + static_cast<ptrdiff_t>(512 * first), 512 * count,
                  static_cast<uint8_t>(i));
      std::vector<uint8_t> back(512 * count + 1);
      ASSERT_EQ(run(*image,
                    {
                        .kind = Request::Kind::kRead,
                        .offset = 512 * first,
                        .buffers = {{back.data() + i % 2, 512 * count}},
                    }),
                0);
      ASSERT_EQ(std::memcmp(back.data() + i % 2, buffer.iov_base, buffer.iov_len), 0);
    }
    EXPECT_EQ(read_at(*image, 0, expected.size()), expected);
  }
  EXPECT_EQ(std::filesystem::file_size(path), kMegabyte + 1536);
}

TEST(RawImage, DrainWaitsForEverythingSubmitted) {
  const ScratchFolder folder;
  const auto image = open_image(folder.image("disk", 4 * kMegabyte));
  std::vector<uint8_t> bytes(4096, 9);
  std::atomic<int> done = 0;
  for (unsigned i = 0; i < 500; ++i)
    image->submit({.kind = Request::Kind::kWrite,
                   .offset = 4096 * (i % 1024),
                   .buffers = {buffer_of(bytes)},
                   .done = [&done](int error) { done += error == 0; }});
  EXPECT_TRUE(image->drain());
  EXPECT_EQ(done, 500);
}

TEST(RawImage, DestructionRunsWhatWasSubmitted) {
  const ScratchFolder folder;
  auto image = open_image(folder.image("disk", kMegabyte));
  std::vector<uint8_t> bytes(512, 9);
  std::atomic<int> done = 0;
  for (int i = 0; i < 200; ++i)
    image->submit({.kind = Request::Kind::kWrite,
                   .buffers = {buffer_of(bytes)},
                   .done = [&done](int) { ++done; }});
  image.reset();
  EXPECT_EQ(done, 200);
}

TEST(RawImage, FullFileSystemGivesTheGuestAnErrorAndKeepsTheFileSound) {
  if (::geteuid() != 0) GTEST_SKIP() << "mounting needs root";
  const ScratchFolder folder;
  const std::string mount_point = folder.path("full");
  std::filesystem::create_directory(mount_point);
  if (::mount("tmpfs", mount_point.c_str(), "tmpfs", 0, "size=1m") != 0)
    GTEST_SKIP() << "cannot mount here";
  {
    const ScratchFolder inside(mount_point);
    const auto path = inside.image("disk", 4 * kMegabyte);
    const auto image = open_image(path);
    EXPECT_EQ(write_at(*image, 0, std::vector<uint8_t>(512 * 1024, 5)), 0);
    EXPECT_EQ(write_at(*image, kMegabyte, std::vector<uint8_t>(2 * kMegabyte, 6)), ENOSPC);
    EXPECT_EQ(read_at(*image, 0, 512 * 1024), std::vector<uint8_t>(512 * 1024, 5));
    EXPECT_EQ(std::filesystem::file_size(path), 4 * kMegabyte);
    EXPECT_EQ(write_at(*image, 0, std::vector<uint8_t>(4096, 8)), 0);
  }
  EXPECT_EQ(::umount(mount_point.c_str()), 0);
}

TEST(RawImage, WriteThatTheHostRefusesIsAnErrorNotASignal) {
  const ScratchFolder folder;
  const auto path = folder.image("disk", kMegabyte);
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{64 * 1024, 64 * 1024};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    auto image = RawImage::open(path, {});
    const bool good = image && write_at(**image, 0, std::vector<uint8_t>(4096, 1)) == 0;
    // The first part fits, the rest does not: a short write, then the error.
    const int error = good ? write_at(**image, 61440, std::vector<uint8_t>(8192, 2)) : 0;
    ::_exit(error == EFBIG ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(RawImage, FileCutShortBehindItsBackReadsAsAnError) {
  const ScratchFolder folder;
  const auto path = folder.image("disk", kMegabyte);
  const auto image = open_image(path);
  std::filesystem::resize_file(path, 4096);
  std::vector<uint8_t> bytes(8192);
  EXPECT_EQ(run(*image, {.kind = Request::Kind::kRead, .buffers = {buffer_of(bytes)}}), EIO);
}

struct Refusal {
  const char* name;
  OpenOptions options;
  const char* reason;
};

TEST(RawImage, RefusesWhatIsNoDiskAndSaysWhy) {
  const ScratchFolder folder;
  std::filesystem::create_directory(folder.path("folder"));
  folder.image("odd", 1000);
  ::mkfifo(folder.path("pipe").c_str(), 0600);
  const Refusal refusals[] = {
      {"missing", {}, "No such file or directory"},
      {"folder", {}, "is a directory"},
      {"folder", {.read_only = true}, "is a directory"},
      {"odd", {}, "has 1000 bytes, which is not a multiple of 512: nearest is 1024"},
      {"pipe", {.read_only = true}, "neither a regular file nor a block device"},
  };
  for (const auto& refusal : refusals) {
    const auto image = RawImage::open(folder.path(refusal.name), refusal.options);
    ASSERT_FALSE(image) << refusal.name;
    EXPECT_NE(image.error().message.find(refusal.reason), std::string::npos)
        << image.error().message;
    EXPECT_NE(image.error().message.find(folder.path(refusal.name)), std::string::npos)
        << image.error().message;
  }
}

TEST(RawImage, UnreadableFileIsRefused) {
  const ScratchFolder folder;
  const auto path = folder.image("disk", 512);
  ASSERT_EQ(::chmod(folder.path("").c_str(), 0755), 0);
  ASSERT_EQ(::chmod(path.c_str(), 0), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && ::seteuid(65534) != 0) ::_exit(2);
    const auto image = RawImage::open(path, {});
    const bool refused =
        !image && image.error().message.find("ermission denied") != std::string::npos;
    ::_exit(refused ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(CacheMode, KnowsQemusNamesAndRefusesOthersByName) {
  EXPECT_EQ(parse_cache_mode("none").value(), CacheMode::kNone);
  EXPECT_EQ(parse_cache_mode("writeback").value(), CacheMode::kWriteback);
  EXPECT_EQ(parse_cache_mode("writethrough").value(), CacheMode::kWritethrough);
  EXPECT_EQ(parse_cache_mode("directsync").value(), CacheMode::kDirectSync);
  EXPECT_EQ(parse_cache_mode("unsafe").value(), CacheMode::kUnsafe);
  EXPECT_NE(parse_cache_mode("fast").error().message.find("'fast'"), std::string::npos);
}

}  // namespace
}  // namespace limen::block
