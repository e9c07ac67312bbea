#include "usb/hid/pointer.h"

#include <algorithm>
#include <array>
#include <utility>

namespace limen::usb {
namespace {

using display::Button;

constexpr std::array<uint8_t, 52> kMouse = {
    0x05, 0x01, 0x09, 0x02, 0xA1, 0x01,              // generic desktop, mouse, application
    0x09, 0x01, 0xA1, 0x00,                          // pointer, physical
    0x05, 0x09, 0x19, 0x01, 0x29, 0x05,              // five buttons,
    0x15, 0x00, 0x25, 0x01, 0x95, 0x05, 0x75, 0x01,  //   a bit each,
    0x81, 0x02, 0x95, 0x01, 0x75, 0x03, 0x81, 0x01,  //   and three that say nothing
    0x05, 0x01, 0x09, 0x30, 0x09, 0x31, 0x09, 0x38,  // X, Y, wheel:
    0x15, 0x81, 0x25, 0x7F, 0x75, 0x08, 0x95, 0x03,  //   a byte each, relative
    0x81, 0x06, 0xC0, 0xC0,
};
constexpr std::array<uint8_t, 72> kTablet = {
    0x05, 0x01, 0x09, 0x02, 0xA1, 0x01,              // generic desktop, mouse, application
    0x09, 0x01, 0xA1, 0x00,                          // pointer, physical
    0x05, 0x09, 0x19, 0x01, 0x29, 0x05,              // five buttons,
    0x15, 0x00, 0x25, 0x01, 0x95, 0x05, 0x75, 0x01,  //   a bit each,
    0x81, 0x02, 0x95, 0x01, 0x75, 0x03, 0x81, 0x01,  //   and three that say nothing
    0x05, 0x01, 0x09, 0x30, 0x09, 0x31,              // X, Y:
    0x15, 0x00, 0x26, 0xFF, 0x7F,                    //   0 to 32767,
    0x35, 0x00, 0x46, 0xFF, 0x7F,                    //
    0x75, 0x10, 0x95, 0x02, 0x81, 0x02,              //   two bytes each, absolute
    0x09, 0x38, 0x15, 0x81, 0x25, 0x7F,              // wheel:
    0x35, 0x00, 0x45, 0x00, 0x75, 0x08, 0x95, 0x01,  //   a byte, relative
    0x81, 0x06, 0xC0, 0xC0,
};
static_assert(display::PointerSink::kScale == 0x7FFF);
constexpr size_t kMostChanges = 64;

uint8_t bit_of(Button button) {
  switch (button) {
    case Button::kLeft:
      return 1;
    case Button::kRight:
      return 2;
    case Button::kMiddle:
      return 4;
    case Button::kSide:
      return 8;
    case Button::kExtra:
      return 16;
  }
  return 0;
}

uint8_t step(int by) { return static_cast<uint8_t>(std::clamp(by, -127, 127)); }

}  // namespace

Pointer::Pointer(bool tablet, const HidProperties& properties, EventLoop& loop,
                 display::Input& input)
    : Hid({.name = tablet ? "QEMU USB Tablet" : "QEMU USB Mouse",
           .subclass = static_cast<uint8_t>(tablet ? 0 : 1),
           .protocol = static_cast<uint8_t>(tablet ? 0 : 2),
           .report_bytes = static_cast<uint16_t>(tablet ? 8 : 4),
           .interval = static_cast<uint8_t>(tablet ? 4 : 10),
           .high_speed_interval = static_cast<uint8_t>(tablet ? 4 : 7),
           .descriptor = tablet ? std::span<const uint8_t>(kTablet) : kMouse},
          properties, loop),
      tablet_(tablet),
      input_(input) {
  input_.add(static_cast<display::PointerSink&>(*this));
  input_.set_aside(static_cast<display::PointerSink&>(*this));
}

Pointer::~Pointer() {
  cancel_timers();
  input_.remove(static_cast<display::PointerSink&>(*this));
}

void Pointer::set_active(bool active) {
  if (active)
    input_.add(static_cast<display::PointerSink&>(*this));
  else
    input_.set_aside(static_cast<display::PointerSink&>(*this));
}

void Pointer::move_by(int x, int y) {
  const std::lock_guard lock(mutex_);
  next_.x += x;
  next_.y += y;
  any_ = true;
}

void Pointer::move_to(unsigned x, unsigned y) {
  const std::lock_guard lock(mutex_);
  next_.x = static_cast<int>(x);
  next_.y = static_cast<int>(y);
  any_ = true;
}

void Pointer::button(Button button, bool down) {
  const std::lock_guard lock(mutex_);
  const uint8_t bit = bit_of(button);
  next_.buttons = static_cast<uint8_t>(down ? next_.buttons | bit : next_.buttons & ~bit);
  any_ = true;
}

void Pointer::wheel(int vertical, int) {
  const std::lock_guard lock(mutex_);
  next_.wheel += vertical;
  any_ = true;
}

void Pointer::sync() {
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(any_, false)) return;
    Change change = next_;
    next_.wheel = 0;
    if (!tablet_) next_.x = next_.y = 0;
    if (!active()) return;
    // Movements that the host has not taken yet merge; so does everything where it takes nothing.
    if ((ends_in_movement() && changes_.back().buttons == change.buttons) ||
        changes_.size() >= kMostChanges) {
      Change& last = changes_.back();
      change.wheel += last.wheel;
      if (!tablet_) {
        change.x += last.x;
        change.y += last.y;
      }
      last = change;
    } else {
      changes_.push_back(change);
    }
  }
  changes_made();
}

/// A button's change does not merge with what follows: where it happened is what it means.
bool Pointer::ends_in_movement() const {
  if (changes_.empty()) return false;
  const auto before = changes_.size() > 1 ? changes_[changes_.size() - 2].buttons : told_.buttons;
  return changes_.back().buttons == before;
}

void Pointer::advance() {
  Change& first = changes_.front();
  told_ = first;
  const auto take = [](int& left, int& told) {
    told = std::clamp(left, -127, 127);
    left -= told;
  };
  take(first.wheel, told_.wheel);
  if (!tablet_) {
    take(first.x, told_.x);
    take(first.y, told_.y);
  }
  // What a byte cannot hold comes with the next report.
  if (first.wheel == 0 && (tablet_ || (first.x == 0 && first.y == 0))) changes_.pop_front();
}

std::vector<uint8_t> Pointer::report() const {
  if (!tablet_) return {told_.buttons, step(told_.x), step(told_.y), step(told_.wheel)};
  const auto x = static_cast<unsigned>(told_.x), y = static_cast<unsigned>(told_.y);
  return {told_.buttons,
          static_cast<uint8_t>(x & 0xFF),
          static_cast<uint8_t>(x >> 8),
          static_cast<uint8_t>(y & 0xFF),
          static_cast<uint8_t>(y >> 8),
          step(told_.wheel)};
}

void Pointer::reported() {
  told_.wheel = 0;
  if (!tablet_) told_.x = told_.y = 0;
}

void Pointer::clear() {
  changes_.clear();
  next_ = told_ = {};
  any_ = false;
}

}  // namespace limen::usb
