#include "cloud/partition_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

namespace limen::cloud {
namespace {

using testing::HasSubstr;

constexpr size_t kSector = 512, kDiskSize = size_t{64} << 20;
constexpr const char* kRoot = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";

/// A disk that util-linux's sfdisk has partitioned.
std::vector<uint8_t> partitioned(const std::string& script) {
  const std::string path = testing::TempDir() + "limen-partitions-" + std::to_string(getpid());
  std::ofstream(path, std::ios::binary).seekp(kDiskSize - 1).put('\0');
  const std::string command = "printf '" + script + "' | sfdisk -q " + path;
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  std::vector<uint8_t> disk(kDiskSize);
  std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(disk.data()), kDiskSize);
  std::remove(path.c_str());
  return disk;
}

Result<std::optional<std::vector<Partition>>> read(const std::vector<uint8_t>& disk) {
  return read_partitions(
      {.size = disk.size(), .read = [&](uint64_t offset, std::span<uint8_t> bytes) -> Result<> {
         if (offset > disk.size() || bytes.size() > disk.size() - offset)
           return fail("beyond the end at {}", offset);
         std::memcpy(bytes.data(), disk.data() + offset, bytes.size());
         return {};
       }});
}

/// As Debian's cloud images have it: the root behind what boots it.
constexpr const char* kCloud =
    "label: gpt\\n"
    "size=1M, type=21686148-6449-6E6F-744E-656564454649\\n"
    "size=8M, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\\n"
    "type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid=01234567-89AB-CDEF-0123-456789ABCDEF\\n";

TEST(PartitionTable, FindsTheRootOfACloudImage) {
  const auto partitions = read(partitioned(kCloud));
  ASSERT_TRUE(partitions) << partitions.error().message;
  ASSERT_TRUE(*partitions);
  ASSERT_EQ((*partitions)->size(), 3u);
  const Partition* root = find_root(**partitions);
  ASSERT_NE(root, nullptr);
  EXPECT_EQ(root->number, 3u);
  EXPECT_EQ(root->type, kRoot);
  EXPECT_EQ(root->id, "01234567-89ab-cdef-0123-456789abcdef");
  EXPECT_EQ(root->start, (size_t{1} + 1 + 8) << 20);
  EXPECT_GT(root->size, size_t{50} << 20);
}

TEST(PartitionTable, TakesTheLargestLinuxFileSystemForTheRoot) {
  const auto partitions = read(partitioned(
      "label: gpt\\nsize=4M, type=linux\\nsize=16M, type=linux\\nsize=32M, type=swap\\n"));
  ASSERT_TRUE(partitions && *partitions);
  ASSERT_NE(find_root(**partitions), nullptr);
  EXPECT_EQ(find_root(**partitions)->number, 2u);
}

TEST(PartitionTable, HasNoRootWithoutALinuxFileSystem) {
  const auto partitions = read(partitioned("label: gpt\\nsize=4M, type=swap\\n"));
  ASSERT_TRUE(partitions && *partitions);
  EXPECT_EQ(find_root(**partitions), nullptr);
}

TEST(PartitionTable, IsNotThereOnADiskWithoutOne) {
  const auto empty = read(std::vector<uint8_t>(kDiskSize));
  ASSERT_TRUE(empty);
  EXPECT_FALSE(*empty);
  const auto tiny = read(std::vector<uint8_t>(kSector));
  ASSERT_TRUE(tiny);
  EXPECT_FALSE(*tiny);
  const auto old = read(partitioned("label: dos\\nsize=4M\\n"));
  ASSERT_TRUE(old);
  EXPECT_FALSE(*old);
}

TEST(PartitionTable, GoesOnWithTheSecondHeader) {
  for (const size_t damaged : {kSector, kSector + 24, 2 * kSector + 40}) {
    auto disk = partitioned(kCloud);
    disk[damaged] ^= 0x55;
    const auto partitions = read(disk);
    ASSERT_TRUE(partitions) << partitions.error().message;
    ASSERT_TRUE(*partitions);
    EXPECT_EQ((*partitions)->size(), 3u);
  }
}

TEST(PartitionTable, SaysWhatIsDamaged) {
  auto disk = partitioned(kCloud);
  const size_t second = kDiskSize - kSector, second_table = kDiskSize - 33 * kSector;
  disk[kSector + 24] ^= 1;
  disk[second + 24] ^= 1;
  EXPECT_THAT(read(disk).error().message, HasSubstr("header in sector 1 has the checksum"));
  disk[kSector + 24] ^= 1;
  disk[2 * kSector + 1] ^= 1;
  EXPECT_THAT(read(disk).error().message, HasSubstr("the table has the checksum"));
  disk[2 * kSector + 1] ^= 1;
  disk[kSector] = 0;  // no header at all
  disk[second + 24] ^= 1;
  disk[second_table] ^= 1;
  EXPECT_THAT(read(disk).error().message, HasSubstr("the table has the checksum"));
  disk[second_table] ^= 1;
  disk[second + 12] = 4;
  EXPECT_THAT(read(disk).error().message, HasSubstr("says that it has 4 bytes; should be 92"));
}

}  // namespace
}  // namespace limen::cloud
