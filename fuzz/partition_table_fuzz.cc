// GUID partition tables of a disk that anyone may have written: every partition that is found lies
// on it. Checksums are made right, or nothing behind them would be reached.
#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cloud/partition_table.h"

namespace {

constexpr size_t kSector = 512;

uint32_t number_at(const std::vector<uint8_t>& disk, size_t at) {
  uint32_t value = 0;
  std::memcpy(&value, disk.data() + at, sizeof value);
  return value;
}

void set_checksum(std::vector<uint8_t>& disk, size_t at, size_t from, size_t size) {
  const auto crc = static_cast<uint32_t>(crc32(0, disk.data() + from, static_cast<uInt>(size)));
  std::memcpy(disk.data() + at, &crc, sizeof crc);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> disk(std::max<size_t>(size, 4 * kSector));
  if (size != 0) std::memcpy(disk.data(), data, size);
  const size_t header = kSector;
  if (size == 0 || data[0] % 4 != 0) std::memcpy(disk.data() + header, "EFI PART", 8);
  uint64_t entries = 0;
  std::memcpy(&entries, disk.data() + header + 72, sizeof entries);
  const uint64_t table = uint64_t{number_at(disk, header + 80)} * number_at(disk, header + 84);
  if (entries < disk.size() / kSector && table <= disk.size() - entries * kSector)
    set_checksum(disk, header + 88, entries * kSector, table);
  if (const uint32_t length = number_at(disk, header + 12); length <= kSector) {
    std::memset(disk.data() + header + 16, 0, 4);
    set_checksum(disk, header + 16, header, length);
  }
  const limen::cloud::DiskReader reader{
      .size = disk.size(),
      .read = [&](uint64_t offset, std::span<uint8_t> bytes) -> limen::Result<> {
        if (offset > disk.size() || bytes.size() > disk.size() - offset) std::abort();
        std::memcpy(bytes.data(), disk.data() + offset, bytes.size());
        return {};
      }};
  const auto partitions = limen::cloud::read_partitions(reader);
  if (!partitions || !*partitions) return 0;
  for (const auto& partition : **partitions)
    if (partition.size == 0 || partition.start > disk.size() ||
        partition.size > disk.size() - partition.start || partition.id.size() != 36)
      std::abort();
  static_cast<void>(limen::cloud::find_root(**partitions));
  return 0;
}
