#include "block/filters/temporary_overlay.h"

#include <gtest/gtest.h>

#include <random>

#include "block/raw_image.h"
#include "block/scratch.h"

namespace limen::block {
namespace {

using Kind = Request::Kind;
constexpr size_t kSize = 256 << 10;

TEST(TemporaryOverlay, BehavesAsTheDiskAndLeavesItAsItWas) {
  const ScratchFolder folder;
  const auto path = folder.image("disk", kSize);
  std::mt19937 random(42);
  std::vector<uint8_t> original(kSize);
  for (auto& byte : original) byte = static_cast<uint8_t>(random());
  EXPECT_EQ(write_at(**RawImage::open(path, {}), 0, original), 0);

  auto model = original;
  {
    auto overlay = TemporaryOverlay::create(*RawImage::open(path, {.read_only = true}));
    ASSERT_TRUE(overlay) << overlay.error().message;
    BlockDevice& disk = **overlay;
    EXPECT_FALSE(disk.read_only());
    EXPECT_EQ(disk.size(), kSize);
    for (int step = 0; step < 2000; ++step) {
      const size_t at = random() % (kSize / 512) * 512;
      const size_t length = std::min<size_t>(512 * (1 + random() % 40), kSize - at);
      switch (random() % 5) {
        case 0: {
          std::vector<uint8_t> bytes(length, static_cast<uint8_t>(random()));
          ASSERT_EQ(write_at(disk, at, bytes), 0);
          std::ranges::copy(bytes, model.begin() + static_cast<ptrdiff_t>(at));
          break;
        }
        case 1: {
          const auto kind = random() % 2 == 0 ? Kind::kDiscard : Kind::kWriteZeroes;
          ASSERT_EQ(run(disk, {.kind = kind, .offset = at, .length = length}), 0);
          std::fill_n(model.begin() + static_cast<ptrdiff_t>(at), length, uint8_t{0});
          break;
        }
        case 2:
          ASSERT_EQ(run(disk, {.kind = Kind::kFlush}), 0);
          break;
        default: {
          const std::vector<uint8_t> bytes = read_at(disk, at, length);
          ASSERT_TRUE(
              std::equal(bytes.begin(), bytes.end(), model.begin() + static_cast<ptrdiff_t>(at)))
              << "step " << step << " at " << at;
          break;
        }
      }
    }
    EXPECT_EQ(read_at(disk, 0, kSize), model);
    EXPECT_TRUE(disk.drain());
  }
  EXPECT_NE(model, original);
  EXPECT_EQ(read_at(**RawImage::open(path, {}), 0, kSize), original);
}

TEST(TemporaryOverlay, RequestsBeyondTheEndFail) {
  const ScratchFolder folder;
  auto disk =
      *TemporaryOverlay::create(*RawImage::open(folder.image("disk", kSize), {.read_only = true}));
  std::vector<uint8_t> bytes(1024);
  EXPECT_EQ(run(*disk, {.kind = Kind::kRead, .offset = kSize - 512, .buffers = {buffer_of(bytes)}}),
            EIO);
  EXPECT_EQ(write_at(*disk, kSize - 512, bytes), EIO);
  EXPECT_EQ(
      run(*disk, {.kind = Kind::kRead, .offset = UINT64_MAX - 511, .buffers = {buffer_of(bytes)}}),
      EIO);
}

TEST(TemporaryOverlay, NeedsAFolderThatCanBeWritten) {
  const ScratchFolder folder;
  ::setenv("TMPDIR", folder.path("nowhere").c_str(), 1);
  const auto overlay =
      TemporaryOverlay::create(*RawImage::open(folder.image("disk", kSize), {.read_only = true}));
  ::unsetenv("TMPDIR");
  ASSERT_FALSE(overlay);
  EXPECT_NE(overlay.error().message.find("nowhere/limen-snapshot-"), std::string::npos);
}

}  // namespace
}  // namespace limen::block
