#include "device/ps2_keyboard.h"

#include <array>
#include <utility>

namespace limen::device {
namespace {

using Key = Ps2Keyboard::Key;

constexpr Key kExtended = 0x80;
constexpr Key kControl = 0x1D, kShift = 0x2A, kRightShift = 0x36, kAlt = 0x38, kSysRq = 0x54;
constexpr uint8_t kPrefix = 0xE0, kPausePrefix = 0xE1, kBreak = 0xF0, kSet1Break = 0x80;

/// Codes of set 2 by those of set 1 without their prefix, which both sets have (PS/2 reference,
/// "Scan code set 1" and "Scan code set 2"); 0: there is no such key.
constexpr std::array<uint8_t, 128> kSet2 = {
    0x00, 0x76, 0x16, 0x1E, 0x26, 0x25, 0x2E, 0x36, 0x3D, 0x3E, 0x46, 0x45, 0x4E, 0x55, 0x66, 0x0D,
    0x15, 0x1D, 0x24, 0x2D, 0x2C, 0x35, 0x3C, 0x43, 0x44, 0x4D, 0x54, 0x5B, 0x5A, 0x14, 0x1C, 0x1B,
    0x23, 0x2B, 0x34, 0x33, 0x3B, 0x42, 0x4B, 0x4C, 0x52, 0x0E, 0x12, 0x5D, 0x1A, 0x22, 0x21, 0x2A,
    0x32, 0x31, 0x3A, 0x41, 0x49, 0x4A, 0x59, 0x7C, 0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0C, 0x03,
    0x0B, 0x83, 0x0A, 0x01, 0x09, 0x77, 0x7E, 0x6C, 0x75, 0x7D, 0x7B, 0x6B, 0x73, 0x74, 0x79, 0x69,
    0x72, 0x7A, 0x70, 0x71, 0x84, 0x60, 0x61, 0x78, 0x07, 0x0F, 0x17, 0x1F, 0x27, 0x2F, 0x37, 0x3F,
    0x47, 0x4F, 0x56, 0x5E, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0x57, 0x6F,
    0x13, 0x19, 0x39, 0x51, 0x53, 0x5C, 0x5F, 0x62, 0x63, 0x64, 0x65, 0x67, 0x68, 0x6A, 0x6D, 0x6E,
};

/// Keys whose code in set 3 is not that in set 2 (PS/2 reference, "Scan code set 3").
constexpr std::array kSet3 = {
    std::pair<Key, uint8_t>{0x01, 0x08}, std::pair<Key, uint8_t>{0x1D, 0x11},
    std::pair<Key, uint8_t>{0x2B, 0x5C}, std::pair<Key, uint8_t>{0x37, 0x7E},
    std::pair<Key, uint8_t>{0x38, 0x19}, std::pair<Key, uint8_t>{0x3A, 0x14},
    std::pair<Key, uint8_t>{0x3B, 0x07}, std::pair<Key, uint8_t>{0x3C, 0x0F},
    std::pair<Key, uint8_t>{0x3D, 0x17}, std::pair<Key, uint8_t>{0x3E, 0x1F},
    std::pair<Key, uint8_t>{0x3F, 0x27}, std::pair<Key, uint8_t>{0x40, 0x2F},
    std::pair<Key, uint8_t>{0x41, 0x37}, std::pair<Key, uint8_t>{0x42, 0x3F},
    std::pair<Key, uint8_t>{0x43, 0x47}, std::pair<Key, uint8_t>{0x44, 0x4F},
    std::pair<Key, uint8_t>{0x45, 0x76}, std::pair<Key, uint8_t>{0x46, 0x5F},
    std::pair<Key, uint8_t>{0x4A, 0x84}, std::pair<Key, uint8_t>{0x4E, 0x7C},
    std::pair<Key, uint8_t>{0x54, 0x57}, std::pair<Key, uint8_t>{0x56, 0x13},
    std::pair<Key, uint8_t>{0x57, 0x56}, std::pair<Key, uint8_t>{0x58, 0x5E},
    std::pair<Key, uint8_t>{0x9C, 0x79}, std::pair<Key, uint8_t>{0x9D, 0x58},
    std::pair<Key, uint8_t>{0xB5, 0x77}, std::pair<Key, uint8_t>{0xB7, 0x57},
    std::pair<Key, uint8_t>{0xB8, 0x39}, std::pair<Key, uint8_t>{0xC6, 0x62},
    std::pair<Key, uint8_t>{0xC7, 0x6E}, std::pair<Key, uint8_t>{0xC8, 0x63},
    std::pair<Key, uint8_t>{0xC9, 0x6F}, std::pair<Key, uint8_t>{0xCB, 0x61},
    std::pair<Key, uint8_t>{0xCD, 0x6A}, std::pair<Key, uint8_t>{0xCF, 0x65},
    std::pair<Key, uint8_t>{0xD0, 0x60}, std::pair<Key, uint8_t>{0xD1, 0x6D},
    std::pair<Key, uint8_t>{0xD2, 0x67}, std::pair<Key, uint8_t>{0xD3, 0x64},
    std::pair<Key, uint8_t>{0xDB, 0x8B}, std::pair<Key, uint8_t>{0xDC, 0x8C},
    std::pair<Key, uint8_t>{0xDD, 0x8D},
};

uint8_t set3_code(Key key) {
  for (const auto& [of, code] : kSet3)
    if (of == key) return code;
  return (key & kExtended) != 0 ? uint8_t{0} : kSet2[key];
}

}  // namespace

void Ps2Keyboard::reset() {
  output_.clear();
  expects_argument_ = 0;
  reporting_ = false;
  leds_ = 0;
  down_.reset();
  set_defaults();
}

void Ps2Keyboard::set_defaults() { scan_code_set_ = 2; }

std::vector<uint8_t> Ps2Keyboard::codes(Key key, bool down) const {
  if (scan_code_set_ == 3) {
    const uint8_t code = set3_code(key);
    if (code == 0) return {};
    return down ? std::vector<uint8_t>{code} : std::vector<uint8_t>{kBreak, code};
  }
  const bool set1 = scan_code_set_ == 1;
  std::vector<uint8_t> bytes;
  const auto add = [&](Key each, bool pressed) {
    if ((each & kExtended) != 0) bytes.push_back(kPrefix);
    const uint8_t plain = each & 0x7F;
    if (set1) {
      bytes.push_back(pressed ? plain : plain | kSet1Break);
    } else {
      if (!pressed) bytes.push_back(kBreak);
      bytes.push_back(kSet2[plain]);
    }
  };
  const bool control = down_[kControl] || down_[kControl | kExtended];
  const bool alt = down_[kAlt] || down_[kAlt | kExtended];
  if (key == kPause) {  // has no release: all is told at once
    if (!down) return {};
    if (control) {  // Break
      add(kPause, true);
      add(kPause, false);
    } else if (set1) {
      bytes = {kPausePrefix, 0x1D, 0x45, kPausePrefix, 0x9D, 0xC5};
    } else {
      bytes = {kPausePrefix, 0x14, 0x77, kPausePrefix, kBreak, 0x14, kBreak, 0x77};
    }
    return bytes;
  }
  if (key == kPrint) {
    if (alt) {
      add(kSysRq, down);
    } else if (control || down_[kShift] || down_[kRightShift]) {
      add(kPrint, down);
    } else {  // looks like the shifted asterisk of the number pad
      constexpr Key kFakeShift = kShift | kExtended;
      add(down ? kFakeShift : kPrint, down);
      add(down ? kPrint : kFakeShift, down);
    }
    return bytes;
  }
  if (kSet2[key & 0x7F] != 0) add(key, down);
  return bytes;
}

void Ps2Keyboard::key(Key key, bool down) {
  const bool told = down_[key];
  if (!down && !told) return;
  const auto bytes = codes(key, down);
  if (!down) down_.reset(key);
  if (!reporting_) return;
  if (down) {
    if (output_.size() + bytes.size() > kQueueLimit) return;
    down_.set(key);
  }
  queue(bytes);
}

void Ps2Keyboard::argument(uint8_t command, uint8_t byte) {
  reply(kAcknowledge);
  if (command == 0xED) {
    leds_ = byte & 7;
  } else if (command == 0xF0) {
    if (byte == 0)
      reply(scan_code_set_);
    else if (byte <= 3)
      scan_code_set_ = byte;
  } else if (command >= 0xFB) {
    expects_argument_ = command;  // takes keys until another command comes
  }
}

void Ps2Keyboard::command(uint8_t byte) {
  const uint8_t argument_of = std::exchange(expects_argument_, uint8_t{0});
  // A command in place of an argument is taken as a command.
  if (argument_of != 0 && byte < 0xED) return argument(argument_of, byte);
  switch (byte) {
    case 0xED:  // LEDs
    case 0xF0:  // scan code set
    case 0xF3:  // typematic rate
    case 0xFB:  // what keys of set 3 do: repeat, tell of their release, or not
    case 0xFC:
    case 0xFD:
      expects_argument_ = byte;
      reply(kAcknowledge);
      break;
    case 0xEE:  // echo
      reply(0xEE);
      break;
    case 0xF2:  // identify
      reply(kAcknowledge);
      reply(0xAB);
      reply(0x83);
      break;
    case 0xF4:
      output_.clear();
      reply(kAcknowledge);
      reporting_ = true;
      break;
    case 0xF5:
    case 0xF6:
      output_.clear();
      reply(kAcknowledge);
      set_defaults();
      reporting_ = byte == 0xF6;
      break;
    case 0xF7:  // the same for all keys
    case 0xF8:
    case 0xF9:
    case 0xFA:
      reply(kAcknowledge);
      break;
    case 0xFE:
      reply(last_reply_);
      break;
    case 0xFF:
      reset();
      reply(kAcknowledge);
      reply(kSelfTestPassed);
      reporting_ = true;
      break;
    default:
      reply(kResend);
      break;
  }
}

}  // namespace limen::device
