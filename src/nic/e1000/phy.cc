#include "nic/e1000/phy.h"

#include <utility>

namespace limen::nic::e1000 {
namespace {

constexpr uint32_t kReady = 1u << 28, kError = 1u << 30, kOpRead = 2, kOpWrite = 1;
constexpr unsigned kAddress = 1;  // the only transceiver on the bus

enum PhyRegister : unsigned {
  kControl = 0,
  kPhyStatus = 1,
  kIdentifier1 = 2,
  kIdentifier2 = 3,
  kAdvertisement = 4,
  kPartnerAbility = 5,
  kExpansion = 6,
  kGigabitControl = 9,
  kGigabitStatus = 10,
  kExtendedStatus = 15,
  kSpecificControl = 16,
  kSpecificStatus = 17,
  kExtendedControl = 20,
};
constexpr uint16_t kControlReset = 0x8000, kControlNegotiate = 0x1000, kControlRestart = 0x0200;
constexpr uint16_t kStatusLink = 0x0004, kStatusNegotiated = 0x0020;

}  // namespace

void Phy::reset() {
  registers_ = {};
  registers_[kControl] = 0x1140;      // negotiates; full duplex, 1000 Mbit/s
  registers_[kPhyStatus] = 0x7949;    // what it can do
  registers_[kIdentifier1] = 0x0141;  // 88E1011
  registers_[kIdentifier2] = 0x0C20;
  registers_[kAdvertisement] = 0x0DE1;
  registers_[kPartnerAbility] = 0x4DE1;  // a partner that can do all
  registers_[kExpansion] = 0x0001;
  registers_[kGigabitControl] = 0x0E00;
  registers_[kGigabitStatus] = 0x3C00;
  registers_[kExtendedStatus] = 0x3000;
  registers_[kSpecificControl] = 0x0068;
  registers_[kExtendedControl] = 0x0C60;
  renegotiated_ = false;
}

bool Phy::take_renegotiated() { return std::exchange(renegotiated_, false); }

uint16_t Phy::read(unsigned number) const {
  uint16_t value = registers_[number];
  if (number == kPhyStatus && link_) value |= kStatusLink | kStatusNegotiated;
  // Resolved: 1000 Mbit/s, full duplex, with a link.
  if (number == kSpecificStatus) value = link_ ? 0xAC00 : 0x0000;
  if (!link_ && (number == kPartnerAbility || number == kGigabitStatus)) value = 0;
  return value;
}

void Phy::write(unsigned number, uint16_t value) {
  switch (number) {
    case kControl:
      if ((value & kControlReset) != 0) return reset();
      renegotiated_ |= (value & kControlNegotiate) != 0 && (value & kControlRestart) != 0;
      registers_[kControl] = static_cast<uint16_t>(value & ~kControlRestart);
      return;
    case kPhyStatus:
    case kIdentifier1:
    case kIdentifier2:
    case kPartnerAbility:
    case kExpansion:
    case kGigabitStatus:
    case kExtendedStatus:
    case kSpecificStatus:
      return;  // to be read alone
    default:
      registers_[number] = value;
  }
}

uint32_t Phy::access(uint32_t mdic) {
  const uint32_t operation = mdic >> 26 & 3;
  const unsigned address = mdic >> 21 & 0x1F, number = mdic >> 16 & 0x1F;
  const uint32_t kept = mdic & ~(kReady | kError);
  if (address != kAddress || (operation != kOpRead && operation != kOpWrite))
    return kept | kReady | kError;
  if (operation == kOpRead) return (kept & 0xFFFF'0000) | read(number) | kReady;
  write(number, static_cast<uint16_t>(mdic));
  return kept | kReady;
}

}  // namespace limen::nic::e1000
