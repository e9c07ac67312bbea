#include "storage/ata/packet_drive.h"

#include <algorithm>
#include <utility>

namespace limen::storage::ata {
namespace scsi = block::scsi;

namespace {

constexpr uint64_t kBlock = scsi::Cd::kBlockSize;
/// A part of a transfer by PIO, and the most that a command gives that says no length.
constexpr uint64_t kPartBytes = 32 * kBlock;
constexpr uint8_t kUseDma = 0x01;  ///< PACKET's features.

/// READ (10), READ (12) and READ CD, which are done in parts.
struct Blocks {
  uint64_t first = 0;
  uint64_t count = 0;
};
std::optional<Blocks> blocks_of(std::span<const uint8_t, 12> cdb) {
  switch (cdb[0]) {
    case scsi::kRead10:
      return Blocks{scsi::get_be<4>(&cdb[2]), scsi::get_be<2>(&cdb[7])};
    case scsi::kRead12:
      return Blocks{scsi::get_be<4>(&cdb[2]), scsi::get_be<4>(&cdb[6])};
    case scsi::kReadCd:
      // Of anything but user data the drive has none; it says so itself.
      if ((cdb[9] & 0xF8) != 0x10) return std::nullopt;
      return Blocks{scsi::get_be<4>(&cdb[2]), scsi::get_be<3>(&cdb[6])};
    default:
      return std::nullopt;
  }
}

/// The same CDB for a part of its blocks.
void set_blocks(std::array<uint8_t, 12>& cdb, const Blocks& blocks) {
  scsi::put_be<4>(&cdb[2], blocks.first);
  if (cdb[0] == scsi::kRead10)
    scsi::put_be<2>(&cdb[7], blocks.count);
  else if (cdb[0] == scsi::kRead12)
    scsi::put_be<4>(&cdb[6], blocks.count);
  else
    scsi::put_be<3>(&cdb[6], blocks.count);
}

/// Bytes that go to the drive.
std::optional<uint64_t> parameter_bytes(std::span<const uint8_t, 12> cdb) {
  if (cdb[0] == scsi::kModeSelect6) return cdb[4];
  if (cdb[0] == scsi::kModeSelect10) return scsi::get_be<2>(&cdb[7]);
  return std::nullopt;
}

/// Commands that have no data.
bool without_data(uint8_t opcode) {
  switch (opcode) {
    case scsi::kTestUnitReady:
    case scsi::kStartStopUnit:
    case scsi::kPreventAllowMediumRemoval:
    case scsi::kSeek6:
    case scsi::kSeek10:
    case scsi::kSetCdSpeed:
    case scsi::kSynchronizeCache10:
    case scsi::kVerify10:
    case scsi::kVerify12:
    case scsi::kSendDiagnostic:
    case scsi::kReserve6:
    case scsi::kRelease6:
      return true;
    default:
      return false;
  }
}

}  // namespace

Result<std::unique_ptr<PacketDrive>> PacketDrive::create(const Identity& identity,
                                                         std::unique_ptr<scsi::Cd> cd) {
  LIMEN_TRY(check_identity(identity));
  return std::unique_ptr<PacketDrive>(new PacketDrive(identity, std::move(cd)));
}

PacketDrive::PacketDrive(Identity identity, std::unique_ptr<scsi::Cd> cd)
    : identity_(std::move(identity)), cd_(std::move(cd)) {}

PacketDrive::~PacketDrive() = default;

void PacketDrive::reset(bool power_on) {
  if (!power_on) return;
  transfer_mode_ = 0x42;
  cd_->reset();
  const std::lock_guard lock(mutex_);
  sense_ = scsi::sense::kNone;
}

OperationPointer PacketDrive::begin(const Taskfile& registers) {
  auto operation = std::make_shared<Operation>();
  operation->registers = registers;
  operation->finished = true;
  switch (registers.command) {
    case kPacket:
      operation->finished = false;
      operation->protocol = Protocol::kPacket;
      break;
    case kIdentifyPacketDevice:
      operation->finished = false;
      operation->work = Operation::Work::kReply;
      operation->protocol = Protocol::kPio;
      operation->direction = Direction::kToHost;
      operation->data = identify();
      operation->bytes = operation->data.size();
      break;
    case kExecuteDiagnostic:
      operation->signature = true;
      operation->ending = {.status = 0, .error = error::kPassed};
      break;
    case kDeviceReset:
      cd_->reset();
      operation->signature = true;
      operation->ending = {.status = 0, .error = error::kPassed};
      break;
    case kSetFeatures: {
      const auto mode = static_cast<uint8_t>(registers.count);
      switch (registers.features & 0xFF) {
        case kSetTransferMode:
          if (mode >= 0x20) transfer_mode_ = mode;
          break;
        case kKeepSettings:
        case kRevertSettings:
        case kEnableLookAhead:
        case kDisableLookAhead:
          break;
        default:
          operation->ending = failure(error::kAbort);
      }
      break;
    }
    case kCheckPowerMode:
      operation->registers.count = 0xFF;
      break;
    case kStandbyImmediate:
    case kIdleImmediate:
    case kStandby:
    case kIdle:
    case kSleep:
    case kFlushCache:
      break;
    case kIdentifyDevice:
    case kReadSectors:
      // By the signature a host learns to ask with IDENTIFY PACKET DEVICE (ATA8-ACS 7.16.4).
      operation->signature = true;
      operation->ending = failure(error::kAbort);
      break;
    default:
      operation->ending = failure(error::kAbort);
  }
  return operation;
}

void PacketDrive::take_packet(Operation& operation, std::span<const uint8_t, 12> cdb) {
  std::ranges::copy(cdb, operation.cdb.begin());
  const bool dma = (operation.registers.features & kUseDma) != 0;
  operation.work = Operation::Work::kPacket;
  operation.part_bytes = kPartBytes;
  operation.direction = Direction::kToHost;
  if (const auto blocks = blocks_of(cdb)) {
    operation.bytes = blocks->count * kBlock;
  } else if (const auto parameters = parameter_bytes(cdb)) {
    operation.direction = Direction::kToDevice;
    operation.bytes = *parameters;
  } else if (!without_data(cdb[0])) {
    operation.exact = false;
    operation.bytes = kPartBytes;
  }
  if (operation.bytes == 0) operation.direction = Direction::kNone;
  operation.protocol = operation.bytes == 0 ? Protocol::kNoData
                       : dma                ? Protocol::kDma
                                            : Protocol::kPio;
}

bool PacketDrive::request_sense(const Operation& operation, const std::vector<iovec>& buffers,
                                const Done& done) {
  if (operation.cdb[0] != scsi::kRequestSense) return false;
  scsi::Sense sense;
  {
    const std::lock_guard lock(mutex_);
    sense = std::exchange(sense_, scsi::sense::kNone);
  }
  if (sense == scsi::sense::kNone) return false;
  const auto bytes = scsi::fixed_sense(sense);
  const size_t wanted = std::min<size_t>(operation.cdb[4], bytes.size());
  done({.transferred = scsi::copy_to(buffers, std::span(bytes).first(wanted))});
  return true;
}

void PacketDrive::transfer(OperationPointer operation, uint64_t from, std::vector<iovec> buffers,
                           Done done) {
  if (operation->work == Operation::Work::kReply) {
    const auto rest =
        std::span<const uint8_t>(operation->data)
            .subspan(static_cast<size_t>(std::min<uint64_t>(from, operation->data.size())));
    return done({.transferred = scsi::copy_to(buffers, rest)});
  }
  // What an error was is kept for REQUEST SENSE, which is the only way to learn of it.
  if (request_sense(*operation, buffers, done)) return;
  scsi::Command command;
  auto cdb = operation->cdb;
  uint64_t bytes = 0;
  for (const iovec& buffer : buffers) bytes += buffer.iov_len;
  if (const auto blocks = blocks_of(cdb); blocks && bytes != 0)
    set_blocks(cdb, {blocks->first + from / kBlock,
                     std::min(bytes / kBlock, blocks->count - from / kBlock)});
  std::ranges::copy(cdb, command.cdb.begin());
  if (operation->direction == Direction::kToDevice) {
    command.data_out = std::move(buffers);
    command.out_bytes = bytes;
  } else {
    command.data_in = std::move(buffers);
    command.in_bytes = bytes;
  }
  command.done = [this, done = std::move(done)](const scsi::Outcome& outcome) {
    ended(outcome, done);
  };
  cd_->execute(std::move(command));
}

void PacketDrive::ended(const scsi::Outcome& outcome, const Done& done) {
  const bool good = outcome.status == scsi::Status::kGood;
  {
    const std::lock_guard lock(mutex_);
    sense_ = good ? scsi::sense::kNone : outcome.sense;
  }
  if (good) return done({.transferred = outcome.transferred});
  // The sense key, in the upper half of the error register.
  done(failure(static_cast<uint8_t>(outcome.sense.key << 4 | error::kAbort)));
}

std::vector<uint8_t> PacketDrive::identify() const {
  IdentifyData words;
  words.set_common(identity_, transfer_mode_);
  words[0] = 0x85C0;  // ATAPI, CD-ROM, removable, packets of 12 bytes taken at once
  words[71] = 30;
  words[72] = 30;
  words[82] = 0x4210;  // NOP, DEVICE RESET, PACKET
  words[83] = 0x4000;
  words[84] |= 0x4000;
  words[85] = 0x4210;
  words[87] |= 0x4000;
  return words.bytes();
}

}  // namespace limen::storage::ata
