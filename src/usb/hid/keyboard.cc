#include "usb/hid/keyboard.h"

#include <algorithm>
#include <array>

namespace limen::usb {
namespace {

using display::KeyCode;

/// A page of 8 modifiers, constant byte, 6 keys; 5 LEDs out (HID 1.11 Appendix B.1).
constexpr std::array<uint8_t, 64> kDescriptor = {
    0x05, 0x01, 0x09, 0x06, 0xA1, 0x01,              // generic desktop, keyboard, application
    0x05, 0x07, 0x19, 0xE0, 0x29, 0xE7, 0x15, 0x00,  // modifiers: usages E0h to E7h,
    0x25, 0x01, 0x75, 0x01, 0x95, 0x08, 0x81, 0x02,  //   a bit each
    0x95, 0x01, 0x75, 0x08, 0x81, 0x01,              // a byte that says nothing
    0x95, 0x05, 0x75, 0x01, 0x05, 0x08, 0x19, 0x01,  // LEDs 1 to 5, a bit each,
    0x29, 0x05, 0x91, 0x02, 0x95, 0x01, 0x75, 0x03,  //   and three that say nothing
    0x91, 0x01,                                      //
    0x95, 0x06, 0x75, 0x08, 0x15, 0x00, 0x26, 0xFF,  // six keys: usages 0 to 255
    0x00, 0x05, 0x07, 0x19, 0x00, 0x29, 0xFF, 0x81, 0x00, 0xC0,
};
constexpr size_t kKeys = 6;
constexpr uint8_t kRollOver = 0x01, kFirstModifier = 0xE0, kLastModifier = 0xE7;
constexpr size_t kMostChanges = 1024;

/// Usages by codes of scan code set 1 (HID Usage Tables 1.12, chapter 10, and "Keyboard/Keypad
/// translation to PS/2"); 0: there is no such key.
constexpr std::array<uint8_t, 128> kUsages = {
    0x00, 0x29, 0x1E, 0x1F, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x2D, 0x2E, 0x2A, 0x2B,
    0x14, 0x1A, 0x08, 0x15, 0x17, 0x1C, 0x18, 0x0C, 0x12, 0x13, 0x2F, 0x30, 0x28, 0xE0, 0x04, 0x16,
    0x07, 0x09, 0x0A, 0x0B, 0x0D, 0x0E, 0x0F, 0x33, 0x34, 0x35, 0xE1, 0x31, 0x1D, 0x1B, 0x06, 0x19,
    0x05, 0x11, 0x10, 0x36, 0x37, 0x38, 0xE5, 0x55, 0xE2, 0x2C, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E,
    0x3F, 0x40, 0x41, 0x42, 0x43, 0x53, 0x47, 0x5F, 0x60, 0x61, 0x56, 0x5C, 0x5D, 0x5E, 0x57, 0x59,
    0x5A, 0x5B, 0x62, 0x63, 0x46, 0x00, 0x64, 0x44, 0x45, 0x67, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x68, 0x69, 0x6A, 0x6B, 0x6C, 0x6D, 0x6E, 0x6F, 0x70, 0x71, 0x72, 0x00,
    0x88, 0x91, 0x90, 0x87, 0x00, 0x00, 0x73, 0x93, 0x92, 0x8A, 0x00, 0x8B, 0x00, 0x89, 0x85, 0x00,
};

/// The same for those with the prefix E0h.
struct Extended {
  uint8_t code;
  uint8_t usage;
};
constexpr std::array kExtendedUsages = {
    Extended{0x1C, 0x58}, Extended{0x1D, 0xE4}, Extended{0x20, 0x7F}, Extended{0x2E, 0x81},
    Extended{0x30, 0x80}, Extended{0x35, 0x54}, Extended{0x37, 0x46}, Extended{0x38, 0xE6},
    Extended{0x46, 0x48}, Extended{0x47, 0x4A}, Extended{0x48, 0x52}, Extended{0x49, 0x4B},
    Extended{0x4B, 0x50}, Extended{0x4D, 0x4F}, Extended{0x4F, 0x4D}, Extended{0x50, 0x51},
    Extended{0x51, 0x4E}, Extended{0x52, 0x49}, Extended{0x53, 0x4C}, Extended{0x5B, 0xE3},
    Extended{0x5C, 0xE7}, Extended{0x5D, 0x65}, Extended{0x5E, 0x66}, Extended{0x65, 0x7E},
    Extended{0x66, 0x74}, Extended{0x67, 0x79}, Extended{0x68, 0x78},
};

uint8_t usage_of(KeyCode code) {
  constexpr KeyCode kLast = 0xFF;
  if (code > kLast) return 0;
  if ((code & display::kExtended) == 0) return kUsages[code];
  const auto found =
      std::ranges::find(kExtendedUsages, static_cast<uint8_t>(code & 0x7F), &Extended::code);
  return found == kExtendedUsages.end() ? uint8_t{0} : found->usage;
}

}  // namespace

Keyboard::Keyboard(const HidProperties& properties, EventLoop& loop, display::Input& input)
    : Hid({.name = "QEMU USB Keyboard",
           .subclass = 1,
           .protocol = 1,
           .report_bytes = 8,
           .interval = 10,
           .high_speed_interval = 7,
           .descriptor = kDescriptor},
          properties, loop),
      input_(input) {
  input_.add(static_cast<display::KeySink&>(*this));
  input_.set_aside(static_cast<display::KeySink&>(*this));
}

Keyboard::~Keyboard() {
  cancel_timers();
  input_.remove(static_cast<display::KeySink&>(*this));
}

void Keyboard::set_active(bool active) {
  if (active)
    input_.add(static_cast<display::KeySink&>(*this));
  else
    input_.set_aside(static_cast<display::KeySink&>(*this));
}

void Keyboard::key(KeyCode code, bool down) {
  const uint8_t usage = usage_of(code);
  if (usage == 0 || !active()) return;
  {
    const std::lock_guard lock(mutex_);
    // A key that repeats is told of once; one that was not told to be down needs no release.
    if (queued_[usage] == down) return;
    if (down && changes_.size() >= kMostChanges) return;
    queued_[usage] = down;
    changes_.push_back({usage, down});
  }
  changes_made();
}

uint8_t Keyboard::leds() const {
  const std::lock_guard lock(mutex_);
  return static_cast<uint8_t>((leds_ >> 2 & 1) | (leds_ & 3) << 1);
}

void Keyboard::advance() {
  const auto [usage, down] = changes_.front();
  changes_.pop_front();
  if (usage >= kFirstModifier && usage <= kLastModifier) {
    const auto bit = static_cast<uint8_t>(1u << (usage - kFirstModifier));
    modifiers_ = static_cast<uint8_t>(down ? modifiers_ | bit : modifiers_ & ~bit);
  } else if (down) {
    down_.push_back(usage);
  } else {
    std::erase(down_, usage);
  }
}

std::vector<uint8_t> Keyboard::report() const {
  std::vector<uint8_t> bytes(2 + kKeys);
  bytes[0] = modifiers_;
  const auto keys = std::span(bytes).subspan(2);
  if (down_.size() > kKeys)
    std::ranges::fill(keys, kRollOver);
  else
    std::ranges::copy(down_, keys.begin());
  return bytes;
}

void Keyboard::clear() {
  changes_.clear();
  queued_.reset();
  down_.clear();
  modifiers_ = 0;
  leds_ = 0;
}

void Keyboard::output(std::span<const uint8_t> bytes) {
  if (!bytes.empty()) leds_ = bytes[0];
}

}  // namespace limen::usb
