#include "storage/ata/disk.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/trace.h"

namespace limen::storage::ata {
namespace {

trace::Event trace_command("ide_bus_exec_cmd");

constexpr uint64_t kMostLba28 = 0x0FFF'FFFF;
constexpr size_t kTrimEntryBytes = 8;
constexpr uint8_t kActive = 0xFF;  ///< CHECK POWER MODE.
/// A disk in the C/H/S of its interface (ATA/ATAPI-5 6.2.1): as large as that can say.
constexpr uint16_t kHeads = 16, kTrackSectors = 63, kMostCylinders = 16383;

/// What an error of the host's is on the cable.
uint8_t error_of(int error, bool write) {
  if (write || error == ENOTSUP || error == EINVAL) return error::kAbort;
  return error::kUncorrectable;
}

uint64_t get48(const uint8_t* from) {
  uint64_t value = 0;
  std::memcpy(&value, from, 6);
  return value;
}

}  // namespace

Result<std::unique_ptr<Disk>> Disk::create(const DiskProperties& properties,
                                           block::BlockDevice& medium) {
  LIMEN_TRY(check_identity(properties.identity));
  const uint32_t physical = properties.physical_block_size;
  if (physical < kSectorBytes || physical > 32768 || !std::has_single_bit(physical))
    return fail("physical_block_size={}: it must be a power of two from 512 to 32768", physical);
  if (medium.logical_block_size() > kSectorBytes)
    return fail("the image has blocks of {} bytes, an ATA disk has 512",
                medium.logical_block_size());
  if (medium.read_only()) return fail("Block node is read-only");
  if (properties.heads > 16 || properties.sectors > 255)
    return fail("heads={},secs={}: an ATA disk has at most 16 heads and 255 sectors in a track",
                properties.heads, properties.sectors);
  return std::unique_ptr<Disk>(new Disk(properties, medium));
}

Disk::Disk(const DiskProperties& properties, block::BlockDevice& medium)
    : properties_(properties),
      medium_(medium),
      default_cylinders_(
          properties.cylinders != 0
              ? properties.cylinders
              : static_cast<uint16_t>(std::clamp<uint64_t>(
                    medium.size() / kSectorBytes / (kHeads * kTrackSectors), 2, kMostCylinders))),
      default_heads_(properties.heads != 0 ? properties.heads : kHeads),
      default_sectors_(properties.sectors != 0 ? properties.sectors : kTrackSectors),
      heads_(default_heads_),
      track_sectors_(default_sectors_),
      write_cache_(properties.write_cache) {}

void Disk::reset(bool power_on) {
  standby_ = false;
  queued_error_.clear();
  if (!power_on) return;
  heads_ = default_heads_;
  track_sectors_ = default_sectors_;
  multiple_ = kMostMultiple;
  transfer_mode_ = 0x45;  // Ultra DMA 5
  write_cache_ = properties_.write_cache;
  look_ahead_ = smart_ = smart_autosave_ = true;
}

OperationPointer Disk::begin(const Taskfile& registers) {
  trace_command("command 0x{:02x} lba {} count {}", registers.command, registers.lba,
                registers.count);
  auto operation = std::make_shared<Operation>();
  operation->registers = registers;
  decide(*operation);
  if (operation->work == Operation::Work::kNone) operation->finished = true;
  return operation;
}

void Disk::decide(Operation& operation) {
  using enum Protocol;
  using enum Direction;
  const uint8_t command = operation.registers.command;
  const auto flush = [&] { operation.work = Operation::Work::kFlush; };
  if ((command & 0xF0) == kSeek) return verify(operation, false);
  if ((command & 0xF0) == kRecalibrate) return;
  switch (command) {
    case kReadSectors:
    case kReadSectorsOnce:
      return begin_transfer(operation, kPio, kToHost, false);
    case kReadSectorsExt:
      return begin_transfer(operation, kPio, kToHost, true);
    case kReadMultiple:
      return begin_transfer(operation, kPio, kToHost, false, true);
    case kReadMultipleExt:
      return begin_transfer(operation, kPio, kToHost, true, true);
    case kReadDma:
    case kReadDmaOnce:
      return begin_transfer(operation, kDma, kToHost, false);
    case kReadDmaExt:
      return begin_transfer(operation, kDma, kToHost, true);
    case kWriteSectors:
    case kWriteSectorsOnce:
      return begin_transfer(operation, kPio, kToDevice, false);
    case kWriteSectorsExt:
      return begin_transfer(operation, kPio, kToDevice, true);
    case kWriteMultiple:
      return begin_transfer(operation, kPio, kToDevice, false, true);
    case kWriteMultipleExt:
      return begin_transfer(operation, kPio, kToDevice, true, true);
    case kWriteMultipleFuaExt:
      return begin_transfer(operation, kPio, kToDevice, true, true, true);
    case kWriteDma:
    case kWriteDmaOnce:
      return begin_transfer(operation, kDma, kToDevice, false);
    case kWriteDmaExt:
      return begin_transfer(operation, kDma, kToDevice, true);
    case kWriteDmaFuaExt:
      return begin_transfer(operation, kDma, kToDevice, true, false, true);
    case kReadFpdmaQueued:
      return begin_queued(operation, kToHost);
    case kWriteFpdmaQueued:
      return begin_queued(operation, kToDevice);
    case kReadVerify:
    case kReadVerifyOnce:
      return verify(operation, false);
    case kReadVerifyExt:
      return verify(operation, true);
    case kDataSetManagement:
      return begin_trim(operation);
    case kFlushCache:
    case kFlushCacheExt:
      return flush();
    case kReadNativeMax:
      return read_native_max(operation, false);
    case kReadNativeMaxExt:
      return read_native_max(operation, true);
    case kIdentifyDevice:
      operation.work = Operation::Work::kReply;
      operation.protocol = kPio;
      operation.direction = kToHost;
      operation.data = identify();
      operation.bytes = operation.data.size();
      return;
    case kSetFeatures:
      return set_features(operation);
    case kSetMultiple: {
      const auto count = static_cast<uint8_t>(operation.registers.count);
      if (count > kMostMultiple || (count != 0 && !std::has_single_bit(count))) break;
      multiple_ = count;
      return;
    }
    case kInitializeParameters:
      return initialize_parameters(operation);
    case kExecuteDiagnostic:
      operation.signature = true;
      operation.ending.error = error::kPassed;
      return;
    case kSmart:
      return smart(operation);
    case kReadLogExt:
      return read_log(operation, kPio);
    case kReadLogDmaExt:
      return read_log(operation, kDma);
    case kCheckPowerMode:
    case 0x98:
      operation.registers.count = standby_ ? 0 : kActive;
      return;
    case kStandbyImmediate:
    case kStandby:
    case kSleep:
    case 0x94:
    case 0x96:
    case 0x99:
      standby_ = true;
      return flush();
    case kIdleImmediate:
    case kIdle:
    case 0x95:
    case 0x97:
      standby_ = false;
      return;
    default:
      break;
  }
  operation.ending = failure(error::kAbort);
}

std::optional<Disk::Extent> Disk::extent(const Taskfile& registers, bool extended) const {
  Extent extent;
  if (extended) {
    extent = {registers.lba, registers.count == 0 ? 65536u : registers.count};
  } else {
    const auto count = static_cast<uint8_t>(registers.count);
    const auto low = static_cast<uint32_t>(registers.lba & 0xFF'FFFF);
    extent.count = count == 0 ? 256 : count;
    if ((registers.device & kDeviceLba) != 0) {
      extent.sector = low | uint64_t{registers.device & 0xFu} << 24;
    } else {
      const uint32_t sector = low & 0xFF, cylinder = low >> 8, head = registers.device & 0xFu;
      if (sector == 0 || sector > track_sectors_ || head >= heads_) return std::nullopt;
      extent.sector = (uint64_t{cylinder} * heads_ + head) * track_sectors_ + sector - 1;
    }
  }
  const uint64_t all = sectors();
  if (extent.sector >= all || extent.count > all - extent.sector) return std::nullopt;
  return extent;
}

void Disk::begin_transfer(Operation& operation, Protocol protocol, Direction direction,
                          bool extended, bool multiple, bool force_unit_access) {
  if (multiple && multiple_ == 0) {
    operation.ending = failure(error::kAbort);
    return;
  }
  const auto where = extent(operation.registers, extended);
  if (!where) {
    operation.ending = failure(error::kIdNotFound);
    return;
  }
  const bool write = direction == Direction::kToDevice;
  standby_ = false;
  operation.work = write ? Operation::Work::kWrite : Operation::Work::kRead;
  operation.protocol = protocol;
  operation.direction = direction;
  operation.offset = where->sector * kSectorBytes;
  operation.bytes = where->count * kSectorBytes;
  operation.part_bytes = multiple ? multiple_ * kSectorBytes : kSectorBytes;
  operation.durable = write && (force_unit_access || !write_cache_);
}

/// READ and WRITE FPDMA QUEUED (ATA8-ACS 7.27, 7.67): the count is in the features, the tag in the
/// count.
void Disk::begin_queued(Operation& operation, Direction direction) {
  operation.protocol = Protocol::kQueued;
  if (!properties_.identity.serial_ata) {
    operation.protocol = Protocol::kNoData;
    operation.ending = failure(error::kAbort);
    return;
  }
  Taskfile registers = operation.registers;
  registers.count = operation.registers.features;
  const auto where = extent(registers, true);
  if (!where) {
    operation.ending = failure(error::kIdNotFound);
    return;
  }
  const bool write = direction == Direction::kToDevice;
  constexpr uint8_t kForceUnitAccess = 0x80;
  standby_ = false;
  operation.work = write ? Operation::Work::kWrite : Operation::Work::kRead;
  operation.direction = direction;
  operation.offset = where->sector * kSectorBytes;
  operation.bytes = where->count * kSectorBytes;
  operation.durable = write && (!write_cache_ || (registers.device & kForceUnitAccess) != 0);
}

void Disk::begin_trim(Operation& operation) {
  constexpr uint16_t kTrim = 1;
  if (!properties_.discard || !medium_.supports_discard() ||
      (operation.registers.features & 0xFF) != kTrim || operation.registers.count == 0) {
    operation.ending = failure(error::kAbort);
    return;
  }
  operation.work = Operation::Work::kTrim;
  operation.protocol = Protocol::kDma;
  operation.direction = Direction::kToDevice;
  operation.bytes = operation.registers.count * kSectorBytes;
  operation.data.resize(operation.bytes);
}

void Disk::verify(Operation& operation, bool extended) const {
  Taskfile registers = operation.registers;
  if ((registers.command & 0xF0) == kSeek) registers.count = 1;
  if (!extent(registers, extended)) operation.ending = failure(error::kIdNotFound);
}

void Disk::read_native_max(Operation& operation, bool extended) const {
  auto& registers = operation.registers;
  if ((registers.device & kDeviceLba) == 0) {
    operation.ending = failure(error::kAbort);
    return;
  }
  const uint64_t last = sectors() == 0 ? 0 : sectors() - 1;
  if (extended) {
    registers.lba = last;
    return;
  }
  const uint64_t shown = std::min(last, kMostLba28 - 1);
  registers.lba = shown & 0xFF'FFFF;
  registers.device = static_cast<uint8_t>((registers.device & 0xF0) | shown >> 24);
}

void Disk::set_features(Operation& operation) {
  switch (operation.registers.features & 0xFF) {
    case kEnableWriteCache:
      write_cache_ = true;
      return;
    case kDisableWriteCache:
      write_cache_ = false;
      operation.work = Operation::Work::kFlush;
      return;
    case kSetTransferMode: {
      const auto mode = static_cast<uint8_t>(operation.registers.count);
      const uint8_t kind = mode & 0xF8, number = mode & 7;
      const bool known = mode <= 1 || (kind == 0x08 && number <= 4) ||
                         (kind == 0x20 && number <= 2) || (kind == 0x40 && number <= 5);
      if (!known) break;
      if (kind >= 0x20) transfer_mode_ = mode;
      return;
    }
    case kEnableLookAhead:
      look_ahead_ = true;
      return;
    case kDisableLookAhead:
      look_ahead_ = false;
      return;
    case kKeepSettings:
    case kRevertSettings:
      return;
    default:
      break;
  }
  operation.ending = failure(error::kAbort);
}

void Disk::initialize_parameters(Operation& operation) {
  const auto count = static_cast<uint8_t>(operation.registers.count);
  if (count == 0) {
    operation.ending = failure(error::kAbort);
    return;
  }
  track_sectors_ = count;
  heads_ = static_cast<uint16_t>((operation.registers.device & 0xF) + 1);
}

/// ATA8-ACS A.13: what went wrong with queued commands, and the list of what logs there are.
void Disk::read_log(Operation& operation, Protocol protocol) const {
  constexpr uint8_t kDirectory = 0x00, kQueuedError = 0x10;
  const auto& registers = operation.registers;
  const auto log = static_cast<uint8_t>(registers.lba);
  const uint64_t page = (registers.lba >> 8 & 0xFF) | (registers.lba >> 32 & 0xFF00);
  if ((log != kDirectory && log != kQueuedError) || page != 0 || registers.count != 1) {
    operation.ending = failure(error::kAbort);
    return;
  }
  std::vector<uint8_t> bytes(kSectorBytes);
  if (log == kDirectory) {
    bytes[0] = 1;
    bytes[2 * kQueuedError] = 1;
  } else if (!queued_error_.empty()) {
    bytes = queued_error_;
  } else {
    bytes[0] = 0x80;  // not of a queued command
    bytes[511] = 0x80;
  }
  operation.work = Operation::Work::kReply;
  operation.protocol = protocol;
  operation.direction = Direction::kToHost;
  operation.bytes = bytes.size();
  operation.data = std::move(bytes);
}

void Disk::note_queued_error(uint8_t tag, const Taskfile& registers, const Ending& ending) {
  std::vector<uint8_t> bytes(kSectorBytes);
  bytes[0] = tag;
  bytes[2] = ending.status;
  bytes[3] = ending.error;
  for (size_t i = 0; i < 3; ++i) {
    bytes[4 + i] = static_cast<uint8_t>(registers.lba >> 8 * i);
    bytes[8 + i] = static_cast<uint8_t>(registers.lba >> (24 + 8 * i));
  }
  bytes[7] = registers.device;
  bytes[12] = static_cast<uint8_t>(registers.count);
  bytes[13] = static_cast<uint8_t>(registers.count >> 8);
  uint8_t sum = 0;
  for (const uint8_t byte : bytes) sum = static_cast<uint8_t>(sum + byte);
  bytes[511] = static_cast<uint8_t>(-sum);
  queued_error_ = std::move(bytes);
}

std::vector<uint8_t> Disk::identify() const {
  IdentifyData words;
  words.set_common(properties_.identity, transfer_mode_);
  const uint64_t all = sectors();
  words[0] = 0x0040;  // fixed
  words[1] = default_cylinders_;
  words[3] = default_heads_;
  words[4] = static_cast<uint16_t>(kSectorBytes * default_sectors_);
  words[5] = kSectorBytes;
  words[6] = default_sectors_;
  words[20] = 3;
  words[21] = 512;
  words[22] = 4;
  words[47] = 0x8000 | kMostMultiple;
  const uint64_t track = uint64_t{heads_} * track_sectors_;
  const uint64_t cylinders = std::min<uint64_t>(all / track, 65535);
  words[54] = static_cast<uint16_t>(cylinders);
  words[55] = heads_;
  words[56] = track_sectors_;
  words.set32(57, static_cast<uint32_t>(cylinders * track));
  words[59] = multiple_ == 0 ? 0 : static_cast<uint16_t>(0x100 | multiple_);
  words.set32(60, static_cast<uint32_t>(std::min(all, kMostLba28)));
  // NOP, look-ahead, write cache, SMART; FLUSH CACHE (EXT) and 48 bits; the log and WRITE FUA.
  words[82] = 0x0061;
  words[83] = 0x7400;
  words[84] |= 0x4060;
  words[85] = static_cast<uint16_t>((look_ahead_ ? 0x40 : 0) | (write_cache_ ? 0x20 : 0) |
                                    (smart_ ? 1 : 0));
  words[86] = 0x3400;
  words[87] |= 0x4060;
  words.set48(100, all);
  const uint32_t ratio = properties_.physical_block_size / static_cast<uint32_t>(kSectorBytes);
  words[106] = ratio > 1 ? static_cast<uint16_t>(0x6000 | std::countr_zero(ratio)) : 0x4000;
  if (properties_.discard && medium_.supports_discard()) {
    words[105] = 8;  // sectors of ranges in one DATA SET MANAGEMENT
    words[169] = 1;
  }
  if (properties_.identity.serial_ata) {
    words[75] = kQueueDepth - 1;
    words[76] |= 0x0100;
  }
  words[217] = properties_.rotation_rate;
  return words.bytes();
}

// --- The medium ---------------------------------------------------------------------------------

void Disk::transfer(OperationPointer operation, uint64_t from, std::vector<iovec> buffers,
                    Done done) {
  uint64_t bytes = 0;
  for (const iovec& buffer : buffers) bytes += buffer.iov_len;
  bytes = std::min(bytes, operation->bytes - std::min(from, operation->bytes));
  switch (operation->work) {
    case Operation::Work::kReply: {
      uint64_t moved = 0;
      for (const iovec& buffer : buffers) {
        const uint64_t count = std::min<uint64_t>(buffer.iov_len, bytes - moved);
        if (count != 0)
          std::memcpy(buffer.iov_base, operation->data.data() + from + moved,
                      static_cast<size_t>(count));
        moved += count;
      }
      return done({.transferred = moved});
    }
    case Operation::Work::kRead: {
      block::Request request{.kind = block::Request::Kind::kRead,
                             .offset = operation->offset + from,
                             .length = bytes,
                             .buffers = std::move(buffers)};
      request.done = [bytes, done = std::move(done)](int error) {
        done(error == 0 ? Ending{.transferred = bytes} : failure(error_of(error, false)));
      };
      return medium_.submit(std::move(request));
    }
    case Operation::Work::kWrite:
      return write(operation, from, std::move(buffers), bytes, std::move(done));
    case Operation::Work::kTrim:
      return trim(operation, from, buffers, std::move(done));
    case Operation::Work::kFlush: {
      block::Request request{.kind = block::Request::Kind::kFlush};
      request.done = [done = std::move(done)](int error) {
        done(error == 0 ? Ending{} : failure(error_of(error, true)));
      };
      return medium_.submit(std::move(request));
    }
    default:
      return done(operation->ending);
  }
}

void Disk::write(const OperationPointer& operation, uint64_t from, std::vector<iovec> buffers,
                 uint64_t bytes, Done done) {
  block::Request request{.kind = block::Request::Kind::kWrite,
                         .offset = operation->offset + from,
                         .length = bytes,
                         .buffers = std::move(buffers)};
  // The flush after the last part covers those before it, which have ended.
  const bool flush = operation->durable && from + bytes == operation->bytes;
  request.done = [this, bytes, flush, done = std::move(done)](int error) {
    const auto ended = [bytes, done](int its_error) {
      done(its_error == 0 ? Ending{.transferred = bytes} : failure(error_of(its_error, true)));
    };
    if (error != 0 || !flush) return ended(error);
    medium_.submit({.kind = block::Request::Kind::kFlush, .done = ended});
  };
  medium_.submit(std::move(request));
}

/// The ranges that DATA SET MANAGEMENT brings (ATA8-ACS 7.10): 48 bits of address, 16 of length.
void Disk::trim(const OperationPointer& operation, uint64_t from, const std::vector<iovec>& buffers,
                Done done) {
  uint64_t moved = 0;
  for (const iovec& buffer : buffers) {
    const uint64_t count = std::min<uint64_t>(buffer.iov_len, operation->bytes - from - moved);
    if (count != 0)
      std::memcpy(operation->data.data() + from + moved, buffer.iov_base,
                  static_cast<size_t>(count));
    moved += count;
  }
  if (from + moved < operation->bytes) return done({.transferred = moved});

  std::vector<Extent> ranges;
  const uint64_t all = sectors();
  for (size_t at = 0; at < operation->data.size(); at += kTrimEntryBytes) {
    const uint8_t* entry = operation->data.data() + at;
    const Extent range{get48(entry), static_cast<uint64_t>(entry[6] | entry[7] << 8)};
    if (range.count == 0) continue;
    if (range.sector > all || range.count > all - range.sector)
      return done(failure(error::kIdNotFound));
    if (!ranges.empty() && ranges.back().sector + ranges.back().count == range.sector)
      ranges.back().count += range.count;
    else
      ranges.push_back(range);
  }
  struct Pending {
    std::atomic<size_t> parts;
    std::atomic<int> error = 0;
    Done done;
  };
  auto pending = std::make_shared<Pending>(ranges.size() + 1, 0, std::move(done));
  const auto ended = [pending, moved](int error) {
    if (error != 0) pending->error = error;
    if (--pending->parts != 0) return;
    pending->done(pending->error == 0 ? Ending{.transferred = moved}
                                      : failure(error_of(pending->error, true)));
  };
  for (const Extent& range : ranges)
    medium_.submit({.kind = block::Request::Kind::kDiscard,
                    .offset = range.sector * kSectorBytes,
                    .length = range.count * kSectorBytes,
                    .done = ended});
  ended(0);
}

}  // namespace limen::storage::ata
