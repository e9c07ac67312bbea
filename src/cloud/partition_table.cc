#include "cloud/partition_table.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>

namespace limen::cloud {
namespace {

constexpr uint64_t kSector = 512;
constexpr std::string_view kSignature = "EFI PART";
constexpr std::string_view kRootX64 = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
constexpr std::string_view kLinuxFileSystem = "0fc63daf-8483-4772-8e79-3d69d8477de4";

/// UEFI 2.10 table 5.5. What is at fixed places on the disk, little-endian as the host is.
struct Header {
  char signature[8];
  uint32_t revision;
  uint32_t header_size;
  uint32_t header_crc;
  uint32_t reserved;
  uint64_t my_lba;
  uint64_t alternate_lba;
  uint64_t first_usable_lba;
  uint64_t last_usable_lba;
  uint8_t disk_guid[16];
  uint64_t entries_lba;
  uint32_t entry_count;
  uint32_t entry_size;
  uint32_t entries_crc;
  uint32_t padding;
};
constexpr size_t kHeaderSize = 92;  // without the padding
static_assert(sizeof(Header) == kHeaderSize + 4);

/// UEFI 2.10 table 5.6; the name is of no interest here.
struct Entry {
  std::array<uint8_t, 16> type;
  std::array<uint8_t, 16> id;
  uint64_t first_lba;
  uint64_t last_lba;
  uint64_t attributes;
};
constexpr uint32_t kLeastEntry = 128;

uint32_t crc_of(std::span<const uint8_t> bytes) {
  return static_cast<uint32_t>(crc32(0, bytes.data(), static_cast<uInt>(bytes.size())));
}

/// UEFI 2.10 appendix A: the first three fields are little-endian numbers.
std::string text_of(const std::array<uint8_t, 16>& g) {
  return fmt::format("{:02x}{:02x}{:02x}{:02x}-{:02x}{:02x}-{:02x}{:02x}-{:02x}{:02x}-{:02x}", g[3],
                     g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9],
                     fmt::join(g.begin() + 10, g.end(), ""));
}

/// Whether there is a header in the sector at all.
Result<bool> read_header(const DiskReader& disk, uint64_t lba, Header& header) {
  std::array<uint8_t, kSector> sector{};
  LIMEN_TRY(disk.read(lba * kSector, sector));
  std::memcpy(&header, sector.data(), sizeof header);
  if (std::string_view(header.signature, sizeof header.signature) != kSignature) return false;
  if (header.header_size < kHeaderSize || header.header_size > kSector)
    return fail("the header in sector {} says that it has {} bytes; should be {} to {}", lba,
                header.header_size, kHeaderSize, kSector);
  std::memset(sector.data() + offsetof(Header, header_crc), 0, sizeof header.header_crc);
  const uint32_t crc = crc_of(std::span(sector).first(header.header_size));
  if (crc != header.header_crc)
    return fail("the header in sector {} has the checksum {:#x}; should be {:#x}", lba,
                header.header_crc, crc);
  return true;
}

Result<std::vector<Partition>> read_entries(const DiskReader& disk, const Header& header) {
  constexpr uint32_t kMostEntries = 4096, kMostEntry = 4096;
  if (header.entry_size < kLeastEntry || header.entry_size > kMostEntry ||
      header.entry_size % 8 != 0)
    return fail("entries of {} bytes; should be 128 times a power of two", header.entry_size);
  if (header.entry_count > kMostEntries)
    return fail("{} entries; should be at most {}", header.entry_count, kMostEntries);
  const uint64_t sectors = disk.size / kSector;
  std::vector<uint8_t> table(size_t{header.entry_count} * header.entry_size);
  if (header.entries_lba >= sectors || table.size() > (sectors - header.entries_lba) * kSector)
    return fail("the table begins in sector {}, the disk has {}", header.entries_lba, sectors);
  if (!table.empty()) LIMEN_TRY(disk.read(header.entries_lba * kSector, table));
  if (const uint32_t crc = crc_of(table); crc != header.entries_crc)
    return fail("the table has the checksum {:#x}; should be {:#x}", crc, header.entries_crc);

  std::vector<Partition> partitions;
  for (uint32_t i = 0; i < header.entry_count; ++i) {
    Entry entry;
    std::memcpy(&entry, table.data() + size_t{i} * header.entry_size, sizeof entry);
    if (std::ranges::all_of(entry.type, [](uint8_t byte) { return byte == 0; })) continue;
    if (entry.first_lba > entry.last_lba || entry.last_lba >= sectors)
      return fail("partition {} is in sectors {} to {}, the disk has {}", i + 1, entry.first_lba,
                  entry.last_lba, sectors);
    partitions.push_back({.number = i + 1,
                          .type = text_of(entry.type),
                          .id = text_of(entry.id),
                          .start = entry.first_lba * kSector,
                          .size = (entry.last_lba - entry.first_lba + 1) * kSector});
  }
  return partitions;
}

Result<std::optional<std::vector<Partition>>> read_table(const DiskReader& disk, uint64_t lba) {
  Header header{};
  if (!LIMEN_TRY(read_header(disk, lba, header))) return std::nullopt;
  return LIMEN_TRY(read_entries(disk, header));
}

}  // namespace

Result<std::optional<std::vector<Partition>>> read_partitions(const DiskReader& disk) {
  constexpr uint64_t kLeastSectors = 3;
  const uint64_t sectors = disk.size / kSector;
  if (sectors < kLeastSectors) return std::nullopt;
  auto first = read_table(disk, 1);
  if (first && *first) return first;
  auto second = read_table(disk, sectors - 1);
  if (second && *second) return second;
  // An image that was made larger has its second table in the middle: only the first one tells.
  if (!first) return fail("damaged partition table: {}", first.error().message);
  if (!second) return fail("damaged partition table: {}", second.error().message);
  return std::nullopt;
}

const Partition* find_root(std::span<const Partition> partitions) {
  const Partition* found = nullptr;
  for (const auto& partition : partitions) {
    if (partition.type == kRootX64) return &partition;
    if (partition.type == kLinuxFileSystem && (found == nullptr || partition.size > found->size))
      found = &partition;
  }
  return found;
}

}  // namespace limen::cloud
