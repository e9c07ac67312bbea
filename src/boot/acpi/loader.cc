#include "boot/acpi/loader.h"

#include <array>
#include <cassert>
#include <cstring>
#include <string_view>

#include "boot/little_endian.h"

namespace limen::boot::acpi {
namespace {

using Bytes = std::vector<std::byte>;

constexpr size_t kCommandSize = 128, kNameSize = 56;
constexpr uint32_t kAllocate = 1, kAddPointer = 2, kAddChecksum = 3;
constexpr uint8_t kHighMemory = 1, kFSegment = 2;
constexpr size_t kChecksumOffset = 9;

void append_name(Bytes& script, std::string_view name) {
  assert(name.size() < kNameSize);
  const size_t at = script.size();
  script.resize(at + kNameSize);
  std::memcpy(script.data() + at, name.data(), name.size());
}

void finish(Bytes& script, size_t start) { script.resize(start + kCommandSize); }

void allocate(Bytes& script, std::string_view file, uint32_t alignment, uint8_t zone) {
  const size_t start = script.size();
  append(script, kAllocate);
  append_name(script, file);
  append(script, alignment);
  append(script, zone);
  finish(script, start);
}

/// The number at `offset` of `file` is an offset into the tables, or into the TPM's log, and
/// becomes an address.
void add_pointer(Bytes& script, std::string_view file, Table::Pointer pointer) {
  const size_t start = script.size();
  append(script, kAddPointer);
  append_name(script, file);
  append_name(script, pointer.tpm_log ? kTpmLogFile : kTablesFile);
  append(script, pointer.offset);
  append(script, pointer.size);
  finish(script, start);
}

void add_checksum(Bytes& script, std::string_view file, uint32_t offset, uint32_t first,
                  uint32_t length) {
  const size_t start = script.size();
  append(script, kAddChecksum);
  append_name(script, file);
  append(script, offset);
  append(script, first);
  append(script, length);
  finish(script, start);
}

}  // namespace

LoaderFiles build_loader_files(const Board& board) {
  constexpr uint32_t kTablesAlignment = 64, kRsdpAlignment = 16;
  LoaderFiles files;
  const auto tables = build_tables(board, {0});
  allocate(files.script, kTablesFile, kTablesAlignment, kHighMemory);
  allocate(files.script, kRsdpFile, kRsdpAlignment, kFSegment);
  if (board.tpm != Board::Tpm::kNone)
    allocate(files.script, kTpmLogFile, kTablesAlignment, kHighMemory);
  for (const auto& table : tables) {
    const auto start = static_cast<uint32_t>(table.address.value);
    files.tables.resize(start + table.bytes.size());
    std::memcpy(files.tables.data() + start, table.bytes.data(), table.bytes.size());
    for (auto pointer : table.pointers) {
      pointer.offset += start;
      add_pointer(files.script, kTablesFile, pointer);
    }
    // The sum was made with the offsets in place of addresses; whoever makes it again starts at 0.
    if (!table.pointers.empty()) {
      const auto at = static_cast<uint32_t>(start + kChecksumOffset);
      files.tables[at] = std::byte{0};
      add_checksum(files.script, kTablesFile, at, start, static_cast<uint32_t>(table.bytes.size()));
    }
  }
  files.rsdp = build_rsdp(tables);
  constexpr uint32_t kRsdpChecksum = 8, kRsdt = 16, kFirstPart = 20, kXsdt = 24,
                     kExtendedChecksum = 32, kRsdpSize = 36;
  files.rsdp[kRsdpChecksum] = files.rsdp[kExtendedChecksum] = std::byte{0};
  add_pointer(files.script, kRsdpFile, {kRsdt, 4});
  add_pointer(files.script, kRsdpFile, {kXsdt, 8});
  add_checksum(files.script, kRsdpFile, kRsdpChecksum, 0, kFirstPart);
  add_checksum(files.script, kRsdpFile, kExtendedChecksum, 0, kRsdpSize);
  return files;
}

}  // namespace limen::boot::acpi
