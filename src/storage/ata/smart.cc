// SMART as a drive in good health gives it (ATA8-ACS 7.53).
#include <numeric>

#include "storage/ata/disk.h"

namespace limen::storage::ata {
namespace {

/// The key without which a SMART command does nothing, in LBA mid and high.
constexpr uint64_t kKey = 0xC2'4F00, kKeyMask = 0xFF'FF00;

struct Attribute {
  uint8_t id;
  uint16_t flags;
  uint8_t value, worst, raw, threshold;
};
constexpr std::array<Attribute, 6> kAttributes = {{
    {0x01, 0x03, 100, 100, 0, 6},     // raw read error rate
    {0x03, 0x03, 100, 100, 16, 0},    // spin-up time
    {0x04, 0x02, 100, 100, 100, 20},  // start and stop count
    {0x05, 0x03, 100, 100, 0, 36},    // reallocated sectors
    {0x09, 0x03, 100, 100, 1, 0},     // hours powered on
    {0xBE, 0x03, 69, 69, 31, 50},     // temperature of the air
}};

void set_checksum(std::vector<uint8_t>& bytes) {
  bytes[511] = static_cast<uint8_t>(-std::accumulate(bytes.begin(), bytes.end() - 1, 0));
}

std::vector<uint8_t> attributes(bool thresholds) {
  std::vector<uint8_t> bytes(kSectorBytes);
  bytes[0] = 1;
  size_t at = 2;
  for (const auto& attribute : kAttributes) {
    bytes[at] = attribute.id;
    if (thresholds) {
      bytes[at + 1] = attribute.threshold;
    } else {
      bytes[at + 1] = static_cast<uint8_t>(attribute.flags);
      bytes[at + 3] = attribute.value;
      bytes[at + 4] = attribute.worst;
      bytes[at + 5] = attribute.raw;
    }
    at += 12;
  }
  if (!thresholds) {
    bytes[362] = 0x02;  // off-line collection ended well
    bytes[367] = 0x01;  // EXECUTE OFF-LINE IMMEDIATE is there
    bytes[368] = 0x03;
    bytes[370] = 0x01;  // errors are logged
  }
  set_checksum(bytes);
  return bytes;
}

std::vector<uint8_t> log_page(uint8_t log) {
  constexpr uint8_t kDirectory = 0, kErrors = 1, kSelfTests = 6;
  std::vector<uint8_t> bytes;
  if (log != kDirectory && log != kErrors && log != kSelfTests) return bytes;
  bytes.resize(kSectorBytes);
  bytes[0] = 1;
  if (log == kDirectory)
    bytes[2 * kErrors] = bytes[2 * kSelfTests] = 1;
  else
    set_checksum(bytes);
  return bytes;
}

}  // namespace

void Disk::smart(Operation& operation) {
  const auto& registers = operation.registers;
  const auto feature = static_cast<uint8_t>(registers.features);
  const auto reply = [&](std::vector<uint8_t> bytes) {
    operation.work = Operation::Work::kReply;
    operation.protocol = Protocol::kPio;
    operation.direction = Direction::kToHost;
    operation.bytes = bytes.size();
    operation.data = std::move(bytes);
  };
  if ((registers.lba & kKeyMask) == kKey && (smart_ || feature == kSmartEnable)) {
    switch (feature) {
      case kSmartEnable:
        smart_ = true;
        return;
      case kSmartDisable:
        smart_ = false;
        return;
      case kSmartAutosave:
        smart_autosave_ = (registers.count & 0xFF) != 0;
        return;
      case kSmartReturnStatus:  // the key unchanged: no threshold is exceeded
      case kSmartOffline:
        return;
      case kSmartReadData:
        return reply(attributes(false));
      case kSmartReadThresholds:
        return reply(attributes(true));
      case kSmartReadLog:
        if (auto page = log_page(static_cast<uint8_t>(registers.lba));
            !page.empty() && (registers.count & 0xFF) == 1)
          return reply(std::move(page));
        break;
      default:
        break;
    }
  }
  operation.ending = failure(error::kAbort);
}

}  // namespace limen::storage::ata
