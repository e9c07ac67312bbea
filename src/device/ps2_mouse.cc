#include "device/ps2_mouse.h"

#include <algorithm>
#include <utility>

namespace limen::device {
namespace {

constexpr int kMostMovement = 127;  // of a packet's nine bits: some drivers look at eight
constexpr int kMostWheel = 7;       // an Explorer's packet has four bits
constexpr int kFarthest = 1 << 14;  // gathered while nobody takes it
constexpr size_t kPacketsKept = 2;  // more would only be late: movement is gathered instead

constexpr uint8_t kWheelMouse = 3, kExplorer = 4;

}  // namespace

void Ps2Mouse::reset() {
  output_.clear();
  expects_argument_ = 0;
  reporting_ = wrap_ = false;
  id_ = 0;
  rates_ = {};
  buttons_ = told_buttons_ = 0;
  set_defaults();
}

void Ps2Mouse::set_defaults() {
  rates_.back() = 100;
  resolution_ = 2;
  scaling_ = remote_ = false;
  x_ = y_ = wheel_ = 0;
}

void Ps2Mouse::move(int x, int y) {
  if (!reporting_) return;
  const auto add = [](int& sum, int more) {
    sum = std::clamp(sum + std::clamp(more, -kFarthest, kFarthest), -kFarthest, kFarthest);
  };
  add(x_, x);
  add(y_, y);
}

void Ps2Mouse::wheel(int steps) {
  if (!reporting_ || id_ == 0) return;
  wheel_ = std::clamp(wheel_ + std::clamp(steps, -kFarthest, kFarthest), -kFarthest, kFarthest);
}

void Ps2Mouse::button(Buttons button, bool down) {
  // A change that was not told yet must not be lost to the next one of the same button.
  if (((buttons_ ^ told_buttons_) & button) != 0) report();
  buttons_ = static_cast<uint8_t>(down ? buttons_ | button : buttons_ & ~button);
}

void Ps2Mouse::report() {
  if (!wants_to_report()) return;
  const size_t size = id_ == 0 ? 3 : 4;
  // A change of buttons counts more than lag.
  const size_t room = buttons_ != told_buttons_ ? kQueueLimit : kPacketsKept * size;
  if (output_.size() + size > room) return;
  send_packet();
}

uint8_t Ps2Mouse::take_output() {
  const uint8_t byte = Ps2Device::take_output();
  if (output_.empty() && wants_to_report()) send_packet();
  return byte;
}

/// PS/2 reference, "Mouse data packet"; the fourth byte as Microsoft's mice have it.
void Ps2Mouse::send_packet() {
  const auto take = [](int& sum, int most) {
    const int part = std::clamp(sum, -most, most);
    sum -= part;
    return part;
  };
  const int x = take(x_, kMostMovement), y = take(y_, kMostMovement);
  const auto low_byte = [](int value) { return static_cast<uint8_t>(value & 0xFF); };
  output_.push_back(
      static_cast<uint8_t>(0x08 | (buttons_ & 7) | (x < 0 ? 0x10 : 0) | (y < 0 ? 0x20 : 0)));
  output_.push_back(low_byte(x));
  output_.push_back(low_byte(y));
  if (id_ == kWheelMouse) output_.push_back(low_byte(-take(wheel_, kMostMovement)));
  if (id_ == kExplorer)
    output_.push_back(
        static_cast<uint8_t>((-take(wheel_, kMostWheel) & 0x0F) | (buttons_ & 0x18) << 1));
  told_buttons_ = buttons_;
}

void Ps2Mouse::argument(uint8_t command, uint8_t byte) {
  reply(kAcknowledge);
  if (command != 0xF3) {
    resolution_ = byte & 3;
    return;
  }
  rates_ = {rates_[1], rates_[2], byte};
  if (rates_ == std::array<uint8_t, 3>{200, 100, 80}) id_ = kWheelMouse;
  if (rates_ == std::array<uint8_t, 3>{200, 200, 80}) id_ = kExplorer;
}

void Ps2Mouse::command(uint8_t byte) {
  if (const uint8_t of = std::exchange(expects_argument_, uint8_t{0}); of != 0)
    return argument(of, byte);
  if (wrap_ && byte != 0xFF && byte != 0xEC) return reply(byte);
  switch (byte) {
    case 0xE6:
    case 0xE7:
      scaling_ = byte == 0xE7;
      reply(kAcknowledge);
      break;
    case 0xE8:  // resolution
    case 0xF3:  // sample rate
      expects_argument_ = byte;
      reply(kAcknowledge);
      break;
    case 0xE9:  // status; the buttons stand in another order than in a packet
      reply(kAcknowledge);
      reply(static_cast<uint8_t>((remote_ ? 0x40 : 0) | (reporting_ ? 0x20 : 0) |
                                 (scaling_ ? 0x10 : 0) | ((buttons_ & kLeft) != 0 ? 4 : 0) |
                                 ((buttons_ & kMiddle) != 0 ? 2 : 0) |
                                 ((buttons_ & kRight) != 0 ? 1 : 0)));
      reply(resolution_);
      reply(rates_.back());
      break;
    case 0xEA:
    case 0xF0:
      remote_ = byte == 0xF0;
      reply(kAcknowledge);
      break;
    case 0xEB:  // a packet now, whether there was movement or not
      reply(kAcknowledge);
      send_packet();
      break;
    case 0xEC:
    case 0xEE:
      wrap_ = byte == 0xEE;
      reply(kAcknowledge);
      break;
    case 0xF2:
      reply(kAcknowledge);
      reply(id_);
      break;
    case 0xF4:
    case 0xF5:
      reporting_ = byte == 0xF4;
      x_ = y_ = wheel_ = 0;
      if (!reporting_) output_.clear();
      reply(kAcknowledge);
      break;
    case 0xF6:
      set_defaults();
      reporting_ = false;
      output_.clear();
      reply(kAcknowledge);
      break;
    case 0xFE:
      reply(last_reply_);
      break;
    case 0xFF:
      reset();
      reply(kAcknowledge);
      reply(kSelfTestPassed);
      reply(0x00);
      break;
    default:
      reply(kResend);
      break;
  }
}

}  // namespace limen::device
