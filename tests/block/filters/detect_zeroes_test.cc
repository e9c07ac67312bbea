#include "block/filters/detect_zeroes.h"

#include <gtest/gtest.h>

#include "block/scratch.h"
#include "virtio/memory_disk.h"

namespace limen::block {
namespace {

using Kind = Request::Kind;

TEST(DetectZeroes, OnlyWritesOfNothingButZeroesBecomeWriteZeroes) {
  auto owned = std::make_unique<virtio::MemoryDisk>(4096);
  auto& disk = *owned;
  std::ranges::fill(disk.bytes, std::byte{9});
  DetectZeroes filter(std::move(owned), true);
  std::vector<uint8_t> zeroes(512), last(512);
  last.back() = 1;
  EXPECT_EQ(write_at(filter, 0, zeroes), 0);
  EXPECT_EQ(write_at(filter, 512, last), 0);
  EXPECT_EQ(
      run(filter,
          {.kind = Kind::kWrite, .offset = 1024, .buffers = {buffer_of(zeroes), buffer_of(last)}}),
      0);
  EXPECT_EQ(disk.kinds, (std::vector{Kind::kWriteZeroes, Kind::kWrite, Kind::kWrite}));
  EXPECT_EQ(read_at(filter, 0, 512), zeroes);
  EXPECT_EQ(read_at(filter, 512, 512), last);
  EXPECT_EQ(read_at(filter, 1536, 512), last);
}

TEST(DetectZeroes, EveryPlaceOfAByteIsSeen) {
  for (const size_t size : {1u, 2u, 63u, 512u, 4097u}) {
    std::vector<uint8_t> bytes(size);
    EXPECT_TRUE(all_zero({buffer_of(bytes)}));
    for (const size_t at : {size_t{0}, size / 2, size - 1}) {
      bytes[at] = 0x80;
      EXPECT_FALSE(all_zero({buffer_of(bytes)})) << at << " of " << size;
      bytes[at] = 0;
    }
  }
}

}  // namespace
}  // namespace limen::block
