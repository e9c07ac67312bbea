#include "nic/e1000/eeprom.h"

namespace limen::nic::e1000 {
namespace {

constexpr uint32_t kClock = 1 << 0, kSelect = 1 << 1, kDataIn = 1 << 2, kDataOut = 1 << 3,
                   kRequest = 1 << 6, kGrant = 1 << 7, kPresent = 1 << 8;
constexpr uint32_t kWritable = kClock | kSelect | kDataIn | kRequest | 0x30;
constexpr uint32_t kEerdStart = 1, kEerdDone = 1 << 4;
constexpr unsigned kCommandBits = 9;  // start, two of opcode, six of address
constexpr uint32_t kRead = 6;         // with the start bit
constexpr size_t kChecksumWord = 0x3F;
constexpr uint16_t kChecksum = 0xBABA;  // of all words (SDM 5.6.35)

}  // namespace

Eeprom::Eeprom(std::span<const uint8_t, net::kMacBytes> mac) {
  for (size_t i = 0; i < 3; ++i)
    words_[i] = static_cast<uint16_t>(mac[2 * i] | mac[2 * i + 1] << 8);
  words_[0x03] = 0x0000;                 // compatibility: no LEDs of a certain maker's
  words_[0x08] = words_[0x09] = 0xFFFF;  // PBA number: none
  words_[0x0A] = 0x4408;                 // initialization control 1: as the card resets by itself
  words_[0x0B] = 0x1100;                 // subsystem
  words_[0x0C] = 0x1AF4;
  words_[0x0D] = 0x100E;  // device
  words_[0x0E] = 0x8086;
  words_[0x0F] = 0x3040;  // initialization control 2
  uint16_t sum = 0;
  for (size_t i = 0; i < kChecksumWord; ++i) sum = static_cast<uint16_t>(sum + words_[i]);
  words_[kChecksumWord] = static_cast<uint16_t>(kChecksum - sum);
}

void Eeprom::reset() {
  pins_ = command_ = output_ = 0;
  bits_ = 0;
  out_ = true;
}

void Eeprom::write_pins(uint32_t value) {
  const uint32_t before = pins_;
  pins_ = value & kWritable;
  if ((pins_ & kSelect) == 0) {
    bits_ = 0;
    command_ = 0;
    out_ = true;
    return;
  }
  if ((before & kSelect) != 0 && (before & kClock) == 0 && (pins_ & kClock) != 0) clock_rises();
}

void Eeprom::clock_rises() {
  if (bits_ < kCommandBits) {
    command_ = command_ << 1 | ((pins_ & kDataIn) != 0 ? 1 : 0);
    // Zeroes in front of the start bit do not count.
    if (command_ == 0) return;
    if (++bits_ != kCommandBits) return;
    // Nothing can be written: other commands than reading do nothing.
    const bool reading = command_ >> 6 == kRead;
    output_ = reading ? words_[command_ & 0x3F] : 0xFFFF;
    out_ = !reading;  // a zero comes before the word
    return;
  }
  out_ = (output_ & 0x8000) != 0;
  output_ = (output_ << 1) & 0xFFFF;
}

uint32_t Eeprom::read_pins() const {
  return pins_ | kPresent | ((pins_ & kRequest) != 0 ? kGrant : 0) | (out_ ? kDataOut : 0);
}

uint32_t Eeprom::read_word(uint32_t value) const {
  const uint32_t address = value >> 8 & 0xFF;
  if ((value & kEerdStart) == 0) return value & ~kEerdDone;
  const uint32_t word = address < words_.size() ? words_[address] : 0;
  return word << 16 | address << 8 | kEerdDone;
}

}  // namespace limen::nic::e1000
