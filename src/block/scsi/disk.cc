#include "block/scsi/disk.h"

#include <algorithm>
#include <bit>

namespace limen::block::scsi {
namespace {

constexpr uint8_t kErrorRecoveryPage = 0x01, kGeometryPage = 0x04, kCachingPage = 0x08,
                  kControlPage = 0x0A;
constexpr uint8_t kWriteCacheEnabled = 0x04;  // in byte 2 of the caching page (SBC-3 6.4.5)
constexpr uint8_t kForceUnitAccess = 0x08, kProtect = 0xE0;  // in byte 1 of READ and WRITE

constexpr uint32_t kMostUnmapDescriptors = 255;
constexpr uint64_t kMostChangedBytes = uint64_t{1} << 30;  ///< Of one UNMAP or WRITE SAME.
constexpr uint64_t kPatternBytes = uint64_t{1} << 20;

bool block_size_fits(uint32_t size) {
  return size >= 512 && size <= 32768 && std::has_single_bit(size);
}

}  // namespace

Result<std::unique_ptr<Disk>> Disk::create(const DiskProperties& properties, BlockDevice& disk) {
  LIMEN_TRY(check_identity(properties.identity));
  for (const auto& [name, size] :
       {std::pair{"logical_block_size", properties.logical_block_size},
        std::pair{"physical_block_size", properties.physical_block_size}})
    if (!block_size_fits(size))
      return fail("{}={}: it must be a power of two from 512 to 32768", name, size);
  if (properties.logical_block_size > properties.physical_block_size)
    return fail("logical_block_size={} is larger than physical_block_size={}",
                properties.logical_block_size, properties.physical_block_size);
  return std::unique_ptr<Disk>(new Disk(properties, disk));
}

Disk::Disk(const DiskProperties& properties, BlockDevice& disk)
    : LogicalUnit({.identity = properties.identity,
                   .block_size = properties.logical_block_size,
                   .removable = properties.removable,
                   .write_cache = properties.write_cache},
                  &disk),
      properties_(properties) {}

bool Disk::unmaps() const {
  return properties_.discard && medium()->supports_discard() && !medium()->read_only();
}

bool Disk::execute_own(Command& command) {
  const auto& cdb = command.cdb;
  switch (cdb[0]) {
    case kRead6:
    case kRead10:
    case kRead12:
    case kRead16: {
      const Extent where = extent(command);
      if ((where.flags & kProtect) != 0)
        finish(command, sense::kInvalidFieldInCdb);
      else
        read(command, where.block, where.count);
      return true;
    }
    case kWrite6:
    case kWrite10:
    case kWrite12:
    case kWrite16:
    case kWriteAndVerify10:
    case kWriteAndVerify12:
    case kWriteAndVerify16: {
      const Extent where = extent(command);
      // WRITE AND VERIFY has another bit in FUA's place; what it verifies must be on the medium.
      const bool verify = (cdb[0] & 0x1F) == 0x0E;
      if ((where.flags & kProtect) != 0)
        finish(command, sense::kInvalidFieldInCdb);
      else
        write(command, where.block, where.count, verify || (where.flags & kForceUnitAccess) != 0);
      return true;
    }
    case kVerify10:
    case kVerify12:
    case kVerify16: {
      const Extent where = extent(command);
      // Comparing with data (BYTCHK) is not there.
      if ((where.flags & (kProtect | 0x06)) != 0)
        finish(command, sense::kInvalidFieldInCdb);
      else
        finish(command, fits(where.block, where.count) ? sense::kNone : sense::kBlockOutOfRange);
      return true;
    }
    case kSeek6:
    case kSeek10: {
      const uint64_t block = cdb[0] == kSeek6 ? extent(command).block : get_be<4>(&cdb[2]);
      finish(command, fits(block, 1) ? sense::kNone : sense::kBlockOutOfRange);
      return true;
    }
    case kSynchronizeCache10:
    case kSynchronizeCache16:
      if (const Extent where = extent(command); !fits(where.block, where.count))
        finish(command, sense::kBlockOutOfRange);
      else
        flush(command, true, 0);
      return true;
    case kReadCapacity10:
      finish(command, read_capacity_10(command), 8);
      return true;
    case kServiceActionIn16:
      if ((cdb[1] & 0x1F) != kReadCapacity16Action) return false;
      finish(command, read_capacity_16(command), get_be<4>(&cdb[10]));
      return true;
    case kUnmap:
      unmap(command);
      return true;
    case kWriteSame10:
    case kWriteSame16:
      write_same(command);
      return true;
    case kStartStopUnit:
    case kPreventAllowMediumRemoval:
      finish(command, sense::kNone);  // a disk of the host's neither stops nor comes out
      return true;
    default:
      return false;
  }
}

LogicalUnit::Reply Disk::read_capacity_10(const Command&) const {
  if (blocks() == 0) return std::unexpected(sense::kNoMedium);
  std::vector<uint8_t> bytes(8);
  put_be<4>(&bytes[0], std::min<uint64_t>(blocks() - 1, UINT32_MAX));
  put_be<4>(&bytes[4], settings().block_size);
  return bytes;
}

LogicalUnit::Reply Disk::read_capacity_16(const Command&) const {
  if (blocks() == 0) return std::unexpected(sense::kNoMedium);
  std::vector<uint8_t> bytes(32);
  put_be<8>(&bytes[0], blocks() - 1);
  put_be<4>(&bytes[8], settings().block_size);
  // Logical blocks per physical block, as an exponent (SBC-3 5.16.2).
  bytes[13] = static_cast<uint8_t>(
      std::countr_zero(properties_.physical_block_size / properties_.logical_block_size));
  if (unmaps()) bytes[14] = 0x80;  // LBPME; what was unmapped reads as anything
  return bytes;
}

// --- Changes without data -----------------------------------------------------------------------

void Disk::ended_changes(Command& command, int error) {
  if (error == 0 && !write_cache()) return flush(command, true, command.out_bytes);
  finish_io(command, true, error, command.out_bytes);
}

/// SBC-3 5.28: a list of extents.
void Disk::unmap(Command& command) {
  const uint64_t length = get_be<2>(&command.cdb[7]);
  if (!unmaps())
    return finish(command, medium()->read_only() ? sense::kWriteProtected : sense::kInvalidOpcode);
  if ((command.cdb[1] & 1) != 0) return finish(command, sense::kInvalidFieldInCdb);  // ANCHOR
  if (length == 0) return finish(command, sense::kNone);
  std::vector<uint8_t> list(std::min(length, command.out_bytes));
  list.resize(copy_from(command.data_out, list));
  if (list.size() < 8 || list.size() < length) return finish(command, sense::kParameterListLength);
  const uint64_t descriptors = get_be<2>(&list[2]);
  if (get_be<2>(&list[0]) + 2 > list.size() || descriptors > list.size() - 8 ||
      descriptors % 16 != 0 || descriptors / 16 > kMostUnmapDescriptors)
    return finish(command, sense::kInvalidFieldInParameters);
  struct Part {
    uint64_t offset, bytes;
  };
  std::vector<Part> parts;
  for (uint64_t at = 8; at < 8 + descriptors; at += 16) {
    const uint64_t block = get_be<8>(&list[at]), count = get_be<4>(&list[at + 8]);
    if (!fits(block, count)) return finish(command, sense::kBlockOutOfRange);
    if (count * settings().block_size > kMostChangedBytes)
      return finish(command, sense::kInvalidFieldInParameters);
    if (count != 0) parts.push_back({block * settings().block_size, count * settings().block_size});
  }
  if (parts.empty()) return finish(command, sense::kNone);
  command.out_bytes = length;
  struct Shared {
    Command command;
    std::atomic<size_t> left;
    std::atomic<int> error = 0;
  };
  auto shared = std::make_shared<Shared>(std::move(command), parts.size());
  for (const Part& part : parts) {
    Request request{.kind = Request::Kind::kDiscard, .offset = part.offset, .length = part.bytes};
    request.done = [this, shared](int error) {
      int none = 0;
      if (error != 0) shared->error.compare_exchange_strong(none, error);
      if (--shared->left == 0) ended_changes(shared->command, shared->error);
    };
    medium()->submit(std::move(request));
  }
}

/// SBC-3 5.42, 5.43: one block of data, as often as there is room.
void Disk::write_same(Command& command) {
  constexpr uint8_t kNoData = 0x01, kUnmapBit = 0x08, kAnchor = 0x10;
  const Extent where = extent(command);
  const bool data = command.cdb[0] != kWriteSame16 || (where.flags & kNoData) == 0;
  const uint32_t block_size = settings().block_size;
  if ((where.flags & (kProtect | kAnchor)) != 0 || where.count == 0 ||
      where.count * block_size > kMostChangedBytes)
    return finish(command, sense::kInvalidFieldInCdb);
  if (medium()->read_only()) return finish(command, sense::kWriteProtected);
  if (!fits(where.block, where.count)) return finish(command, sense::kBlockOutOfRange);
  auto block = std::make_shared<std::vector<uint8_t>>(block_size);
  if (data && copy_from(command.data_out, *block) != block_size)
    return finish(command, sense::kInvalidFieldInCdb);
  command.out_bytes = data ? block_size : 0;
  const uint64_t offset = where.block * block_size, bytes = where.count * block_size;
  if (std::ranges::any_of(*block, [](uint8_t byte) { return byte != 0; })) {
    const uint64_t pattern_bytes = std::min(kPatternBytes, bytes) / block_size * block_size;
    block->resize(pattern_bytes);
    for (uint64_t i = block_size; i < pattern_bytes; ++i) (*block)[i] = (*block)[i - block_size];
    return fill(std::make_shared<Command>(std::move(command)), block, offset, bytes);
  }
  Request request{.kind = Request::Kind::kWriteZeroes,
                  .offset = offset,
                  .length = bytes,
                  .may_unmap = (where.flags & kUnmapBit) != 0};
  request.done = [this, moved = std::make_shared<Command>(std::move(command))](int error) {
    ended_changes(*moved, error);
  };
  medium()->submit(std::move(request));
}

void Disk::fill(std::shared_ptr<Command> command,
                const std::shared_ptr<std::vector<uint8_t>>& pattern, uint64_t offset,
                uint64_t left) {
  const uint64_t step = std::min<uint64_t>(pattern->size(), left);
  Request request{.kind = Request::Kind::kWrite,
                  .offset = offset,
                  .length = step,
                  .buffers = {{pattern->data(), static_cast<size_t>(step)}}};
  request.done = [this, command = std::move(command), pattern, offset, left, step](int error) {
    if (error != 0 || step == left) return ended_changes(*command, error);
    fill(command, pattern, offset + step, left - step);
  };
  medium()->submit(std::move(request));
}

// --- Pages --------------------------------------------------------------------------------------

std::optional<std::vector<uint8_t>> Disk::own_page(uint8_t page) {
  switch (page) {
    case 0xB0: {  // block limits (SBC-3 6.6.3)
      std::vector<uint8_t> bytes(60);
      const uint32_t size = settings().block_size;
      bytes[0] = 1;  // WRITE SAME needs a count
      put_be<2>(&bytes[2], properties_.physical_block_size / size);
      put_be<4>(&bytes[4], UINT16_MAX);  // longest transfer: none but the command's
      if (unmaps()) {
        put_be<4>(&bytes[16], kMostChangedBytes / size);
        put_be<4>(&bytes[20], kMostUnmapDescriptors);
        put_be<4>(&bytes[24], std::max(4096u, size) / size);  // granularity
      }
      put_be<8>(&bytes[32], kMostChangedBytes / size);
      return bytes;
    }
    case 0xB1: {  // block device characteristics (SBC-3 6.6.2)
      std::vector<uint8_t> bytes(60);
      put_be<2>(&bytes[0], properties_.rotation_rate);
      return bytes;
    }
    case 0xB2: {  // logical block provisioning (SBC-3 6.6.4)
      std::vector<uint8_t> bytes(4);
      if (unmaps()) {
        bytes[1] = 0xE0;  // UNMAP, WRITE SAME (16) and (10) with UNMAP
        bytes[2] = 0x02;  // thin
      }
      return bytes;
    }
    default:
      return std::nullopt;
  }
}

std::optional<std::vector<uint8_t>> Disk::mode_page(uint8_t page, bool changeable) {
  switch (page) {
    case kErrorRecoveryPage: {
      std::vector<uint8_t> bytes(12);
      bytes[0] = page;
      bytes[1] = 10;
      if (!changeable) bytes[2] = 0x80;  // what was written is where it was written
      return bytes;
    }
    case kGeometryPage: {  // rigid disk geometry, for those who ask (SBC-2 6.3.4.6)
      std::vector<uint8_t> bytes(24);
      bytes[0] = page;
      bytes[1] = 22;
      if (changeable) return bytes;
      constexpr uint64_t kHeads = 16, kSectors = 63;
      put_be<3>(&bytes[2], std::min<uint64_t>(blocks() / (kHeads * kSectors), 0xFF'FFFF));
      bytes[5] = kHeads;
      put_be<2>(&bytes[20], 5400);
      return bytes;
    }
    case kCachingPage: {
      std::vector<uint8_t> bytes(20);
      bytes[0] = page;
      bytes[1] = 18;
      if (changeable || write_cache()) bytes[2] = kWriteCacheEnabled;
      return bytes;
    }
    case kControlPage: {
      std::vector<uint8_t> bytes(12);
      bytes[0] = page;
      bytes[1] = 10;
      if (!changeable) bytes[3] = 0x10;  // commands may be reordered
      return bytes;
    }
    default:
      return std::nullopt;
  }
}

void Disk::select_mode_page(uint8_t page, std::span<const uint8_t> bytes) {
  if (page == kCachingPage) set_write_cache((bytes[2] & kWriteCacheEnabled) != 0);
}

}  // namespace limen::block::scsi
