#include "block/scsi/cd.h"

#include <algorithm>

namespace limen::block::scsi {
namespace {

constexpr uint8_t kErrorRecoveryPage = 0x01, kAudioPage = 0x0E, kCapabilitiesPage = 0x2A;
/// Media events (MMC-6 6.6.3.3.5).
constexpr uint8_t kNoEvent = 0, kEjectRequest = 1, kNewMedia = 2, kMediaRemoval = 3;
constexpr uint8_t kLeadOut = 0xAA;
constexpr uint64_t kSecondsOffset = 150;  ///< Blocks before block 0 (MMC-6 Annex E).
/// 80 minutes of CD; what is larger is a DVD.
constexpr uint64_t kMostCdBlocks = 80 * 60 * 75;
constexpr uint16_t kProfileCd = 0x0008, kProfileDvd = 0x0010;

/// An address: blocks, or minutes, seconds and frames.
void put_address(uint8_t* to, uint64_t block, bool msf) {
  if (!msf) return put_be<4>(to, block);
  const uint64_t frames = block + kSecondsOffset;
  to[0] = 0;
  to[1] = static_cast<uint8_t>(std::min<uint64_t>(frames / (75 * 60), 0xFF));
  to[2] = static_cast<uint8_t>(frames / 75 % 60);
  to[3] = static_cast<uint8_t>(frames % 75);
}

}  // namespace

Result<std::unique_ptr<Cd>> Cd::create(const Identity& identity, BlockDevice* image,
                                       std::function<void(bool open)> tray_moved) {
  LIMEN_TRY(check_identity(identity));
  return std::unique_ptr<Cd>(new Cd(identity, image, std::move(tray_moved)));
}

Cd::Cd(const Identity& identity, BlockDevice* image, std::function<void(bool open)> tray_moved)
    : LogicalUnit({.identity = identity, .block_size = kBlockSize, .removable = true}, image),
      tray_moved_(std::move(tray_moved)) {}

void Cd::reset() {
  locked_ = false;
  media_event_ = kNoEvent;
  LogicalUnit::reset();
}

Sense Cd::readiness() const {
  if (tray_open_) return sense::kNoMediumTrayOpen;
  return LogicalUnit::readiness();
}

// --- The tray -----------------------------------------------------------------------------------

void Cd::move_tray(bool open) {
  if (tray_open_.exchange(open) == open) return;
  if (medium() != nullptr) {
    media_event_ = open ? kMediaRemoval : kNewMedia;
    if (!open) attention(sense::kMediumMayHaveChanged);
  }
  if (tray_moved_) tray_moved_(open);
}

Result<> Cd::open_tray(bool force) {
  if (locked_ && !force && !tray_open_) {
    media_event_ = kEjectRequest;
    return fail(
        "Device is locked and force was not specified, wait for tray to open and try again");
  }
  move_tray(true);
  return {};
}

void Cd::close_tray() { move_tray(false); }

Result<> Cd::change_medium(BlockDevice* image) {
  if (!tray_open_ && medium() != nullptr) return fail("Tray of device is not open");
  set_medium(image);
  if (!tray_open_) {
    media_event_ = image != nullptr ? kNewMedia : kMediaRemoval;
    if (image != nullptr) attention(sense::kMediumMayHaveChanged);
  }
  return {};
}

/// MMC-6 6.42.
Sense Cd::start_stop(const Command& command) {
  const uint8_t bits = command.cdb[4];
  constexpr uint8_t kStart = 0x01, kLoadEject = 0x02, kPowerCondition = 0xF0;
  if ((bits & kPowerCondition) != 0 || (bits & kLoadEject) == 0) return sense::kNone;
  const bool load = (bits & kStart) != 0;
  if (!load && !tray_open_ && locked_)
    return medium() == nullptr ? Sense{2, 0x53, 2} : sense::kMediumRemovalPrevented;
  move_tray(!load);
  return sense::kNone;
}

// --- Commands -----------------------------------------------------------------------------------

bool Cd::execute_own(Command& command) {
  const auto& cdb = command.cdb;
  const auto when_ready = [this, &command](auto reply, uint64_t allocation) {
    if (const Sense not_ready = readiness(); not_ready != sense::kNone)
      finish(command, not_ready);
    else
      finish(command, reply(), allocation);
  };
  switch (cdb[0]) {
    case kRead6:
    case kRead10:
    case kRead12:
    case kRead16: {
      const Extent where = extent(command);
      read(command, where.block, where.count);
      return true;
    }
    case kReadCd:
      read_cd(command);
      return true;
    case kReadCapacity10:
      when_ready(
          [this]() -> Reply {
            std::vector<uint8_t> bytes(8);
            put_be<4>(&bytes[0], blocks() == 0 ? 0 : std::min<uint64_t>(blocks() - 1, UINT32_MAX));
            put_be<4>(&bytes[4], kBlockSize);
            return bytes;
          },
          8);
      return true;
    case kReadToc:
      when_ready([&] { return read_toc(command); }, get_be<2>(&cdb[7]));
      return true;
    case kReadDiscInformation:
      when_ready([&] { return disc_information(command); }, get_be<2>(&cdb[7]));
      return true;
    case kReadTrackInformation:
      when_ready([&] { return track_information(command); }, get_be<2>(&cdb[7]));
      return true;
    case kGetConfiguration:
      finish(command, configuration(command), get_be<2>(&cdb[7]));
      return true;
    case kGetEventStatus:
      finish(command, event_status(command), get_be<2>(&cdb[7]));
      return true;
    case kMechanismStatus:
      finish(command, mechanism_status(), get_be<2>(&cdb[8]));
      return true;
    case kStartStopUnit:
      finish(command, start_stop(command));
      return true;
    case kPreventAllowMediumRemoval:
      locked_ = (cdb[4] & 1) != 0;
      finish(command, sense::kNone);
      return true;
    case kSeek10:
      if (const Sense not_ready = readiness(); not_ready != sense::kNone)
        finish(command, not_ready);
      else
        finish(command, fits(get_be<4>(&cdb[2]), 1) ? sense::kNone : sense::kBlockOutOfRange);
      return true;
    case kSetCdSpeed:
    case kSynchronizeCache10:
      finish(command, sense::kNone);
      return true;
    default:
      return false;
  }
}

/// READ CD (MMC-6 6.18), user data alone: there are no other bytes of a sector in an image.
void Cd::read_cd(Command& command) {
  const auto& cdb = command.cdb;
  const uint8_t expected = (cdb[1] >> 2) & 7, wanted = cdb[9] & 0xF8, subchannels = cdb[10] & 7;
  constexpr uint8_t kAnyType = 0, kMode1 = 2, kUserData = 0x10;
  if (const Sense not_ready = readiness(); not_ready != sense::kNone)
    return finish(command, not_ready);
  if (expected != kAnyType && expected != kMode1)
    return finish(command, sense::kIllegalModeForTrack);
  const uint64_t block = get_be<4>(&cdb[2]), count = get_be<3>(&cdb[6]);
  if (!fits(block, count)) return finish(command, sense::kBlockOutOfRange);
  if (subchannels != 0 || (wanted != 0 && wanted != kUserData))
    return finish(command, sense::kInvalidFieldInCdb);
  if (wanted == 0) return finish(command, sense::kNone);
  read(command, block, count);
}

/// MMC-6 6.25: one session with one track of data.
LogicalUnit::Reply Cd::read_toc(const Command& command) const {
  const auto& cdb = command.cdb;
  const bool msf = (cdb[1] & 0x02) != 0;
  const uint8_t start = cdb[6];
  uint8_t format = cdb[2] & 0x0F;
  if (format == 0) format = cdb[9] >> 6;  // where older drives had it
  constexpr uint8_t kDataTrack = 0x14;    // position in Q, digital copy prohibited, data
  std::vector<uint8_t> bytes = {0, 0, 1, 1};
  const auto entry = [&](uint8_t track, uint64_t block) {
    const size_t at = bytes.size();
    bytes.resize(at + 8);
    bytes[at + 1] = kDataTrack;
    bytes[at + 2] = track;
    put_address(&bytes[at + 4], block, msf);
  };
  switch (format) {
    case 0:
      if (start > 1 && start != kLeadOut) return std::unexpected(sense::kInvalidFieldInCdb);
      if (start <= 1) entry(1, 0);
      entry(kLeadOut, blocks());
      break;
    case 1:
      entry(1, 0);
      break;
    case 2: {  // as in the lead-in: first track, last track, lead-out, track 1
      const auto raw = [&](uint8_t point, uint64_t minute, std::optional<uint64_t> block) {
        const size_t at = bytes.size();
        bytes.resize(at + 11);
        bytes[at] = 1;
        bytes[at + 1] = kDataTrack;
        bytes[at + 3] = point;
        if (block)
          put_address(&bytes[at + 7], *block, true);
        else
          bytes[at + 8] = static_cast<uint8_t>(minute);
      };
      raw(0xA0, 1, std::nullopt);
      raw(0xA1, 1, std::nullopt);
      raw(0xA2, 0, blocks());
      raw(1, 0, uint64_t{0});
      break;
    }
    default:
      return std::unexpected(sense::kInvalidFieldInCdb);
  }
  put_be<2>(&bytes[0], bytes.size() - 2);
  return bytes;
}

/// MMC-6 6.5, 5.3.
LogicalUnit::Reply Cd::configuration(const Command& command) const {
  const uint8_t type = command.cdb[1] & 3;
  const uint64_t first = get_be<2>(&command.cdb[2]);
  if (type == 3) return std::unexpected(sense::kInvalidFieldInCdb);
  const bool medium = readiness() == sense::kNone;
  const bool dvd = medium && blocks() > kMostCdBlocks;
  std::vector<uint8_t> bytes(8);
  const auto feature = [&](uint16_t code, uint8_t flags, bool current,
                           std::vector<uint8_t> content) {
    constexpr uint8_t kOnlyCurrent = 1, kOne = 2;
    if (type == kOne ? code != first : code < first) return;
    if (type == kOnlyCurrent && !current) return;
    const size_t at = bytes.size();
    bytes.resize(at + 4);
    put_be<2>(&bytes[at], code);
    bytes[at + 2] = static_cast<uint8_t>(flags | (current ? 1 : 0));
    bytes[at + 3] = static_cast<uint8_t>(content.size());
    bytes.insert(bytes.end(), content.begin(), content.end());
  };
  constexpr uint8_t kPersistent = 0x02;
  const auto is = [](bool yes) { return static_cast<uint8_t>(yes ? 1 : 0); };
  feature(0x0000, kPersistent, true,
          {0, kProfileDvd, is(dvd), 0, 0, kProfileCd, is(medium && !dvd), 0});
  feature(0x0001, 0x08 | kPersistent, true, {0, 0, 0, 1, 0, 0, 0, 0});  // core; over SCSI
  feature(0x0003, kPersistent, true, {0x29, 0, 0, 0});  // a tray that locks and ejects
  feature(0x0010, 0, medium, {0, 0, kBlockSize >> 8, 0, 0, 1, 0, 0});  // reads any block
  feature(0x001E, 0x08, medium && !dvd, {0, 0, 0, 0});
  feature(0x001F, 0x04, dvd, {0, 0, 0, 0});
  put_be<4>(&bytes[0], bytes.size() - 4);
  if (medium) put_be<2>(&bytes[6], dvd ? kProfileDvd : kProfileCd);
  return bytes;
}

/// MMC-6 6.6. Each event is told once.
LogicalUnit::Reply Cd::event_status(const Command& command) {
  constexpr uint8_t kPolled = 1, kMediaClass = 4;
  if ((command.cdb[1] & kPolled) == 0) return std::unexpected(sense::kInvalidFieldInCdb);
  std::vector<uint8_t> bytes(4);
  bytes[3] = 1 << kMediaClass;
  if ((command.cdb[4] & 1 << kMediaClass) == 0) {
    bytes[2] = 0x80;  // no event of the classes that were asked for
    put_be<2>(&bytes[0], bytes.size() - 2);
    return bytes;
  }
  bytes[2] = kMediaClass;
  bytes.resize(8);
  bytes[4] = media_event_.exchange(kNoEvent);
  bytes[5] =
      static_cast<uint8_t>((tray_open_ ? 1 : 0) | (!tray_open_ && medium() != nullptr ? 2 : 0));
  put_be<2>(&bytes[0], bytes.size() - 2);
  return bytes;
}

/// MMC-6 6.22: a finished disc that cannot be written.
LogicalUnit::Reply Cd::disc_information(const Command& command) const {
  if ((command.cdb[1] & 7) != 0) return std::unexpected(sense::kInvalidFieldInCdb);
  std::vector<uint8_t> bytes(34);
  put_be<2>(&bytes[0], bytes.size() - 2);
  bytes[2] = 0x0E;  // last session complete, disc complete
  bytes[3] = bytes[4] = bytes[5] = bytes[6] = 1;
  bytes[7] = 0x20;  // unrestricted use
  return bytes;
}

/// MMC-6 6.26.
LogicalUnit::Reply Cd::track_information(const Command& command) const {
  const uint64_t number = get_be<4>(&command.cdb[2]);
  constexpr uint8_t kByTrack = 1, kBySession = 2;
  const uint8_t type = command.cdb[1] & 3;
  if (type == 3 || ((type == kByTrack || type == kBySession) && number != 1))
    return std::unexpected(sense::kInvalidFieldInCdb);
  if (type == 0 && !fits(number, 1)) return std::unexpected(sense::kBlockOutOfRange);
  std::vector<uint8_t> bytes(36);
  put_be<2>(&bytes[0], bytes.size() - 2);
  bytes[2] = bytes[3] = 1;
  bytes[5] = 0x04;  // data
  bytes[6] = 0x01;  // mode 1
  put_be<4>(&bytes[24], blocks());
  return bytes;
}

LogicalUnit::Reply Cd::mechanism_status() const {
  std::vector<uint8_t> bytes(8);
  if (tray_open_) bytes[1] = 0x10;
  bytes[5] = 1;
  return bytes;
}

std::optional<std::vector<uint8_t>> Cd::mode_page(uint8_t page, bool changeable) {
  switch (page) {
    case kErrorRecoveryPage: {
      std::vector<uint8_t> bytes(8);
      bytes[0] = page;
      bytes[1] = 6;
      if (!changeable) bytes[3] = 5;  // retries
      return bytes;
    }
    case kAudioPage: {
      std::vector<uint8_t> bytes(16);
      bytes[0] = page;
      bytes[1] = 14;
      return bytes;
    }
    case kCapabilitiesPage: {  // MMC-3 5.5.10, which today's systems still read
      std::vector<uint8_t> bytes(22);
      bytes[0] = page;
      bytes[1] = 20;
      if (changeable) return bytes;
      bytes[2] = 0x3B;  // reads CD-R, CD-RW, DVD-ROM, DVD-R
      bytes[4] = 0x70;  // mode 2 form 1 and 2, several sessions
      bytes[6] = static_cast<uint8_t>(0x29 | (locked_ ? 0x02 : 0));  // a tray that locks and ejects
      put_be<2>(&bytes[8], 50 * 176);
      put_be<2>(&bytes[10], 2);
      put_be<2>(&bytes[12], 2048);
      put_be<2>(&bytes[14], 16 * 176);
      return bytes;
    }
    default:
      return std::nullopt;
  }
}

}  // namespace limen::block::scsi
