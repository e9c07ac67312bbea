// What stands at one of the keyboard controller's two ports.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>

namespace limen::device {

/// A PS/2 device's side of the wire: commands in, bytes out (IBM PS/2 Hardware Interface Technical
/// Reference, "Keyboard and Auxiliary Device Controller"). Its controller holds the lock.
class Ps2Device {
 public:
  virtual ~Ps2Device() = default;

  virtual void reset() = 0;
  /// A byte from the controller.
  virtual void command(uint8_t byte) = 0;
  [[nodiscard]] bool has_output() const { return !output_.empty(); }
  /// While has_output().
  virtual uint8_t take_output() {
    const uint8_t byte = output_.front();
    output_.pop_front();
    return byte;
  }

 protected:
  static constexpr uint8_t kAcknowledge = 0xFA, kResend = 0xFE, kSelfTestPassed = 0xAA;
  /// What a person did is kept up to here; answers have as much again.
  static constexpr size_t kQueueLimit = 32;

  void reply(uint8_t byte) {
    last_reply_ = byte;
    if (output_.size() < 2 * kQueueLimit) output_.push_back(byte);
  }
  void queue(std::span<const uint8_t> bytes) {
    output_.insert(output_.end(), bytes.begin(), bytes.end());
  }

  std::deque<uint8_t> output_;
  uint8_t expects_argument_ = 0;  ///< The command whose argument is next; 0: none.
  uint8_t last_reply_ = 0;
  bool reporting_ = false;  ///< Input is passed on.
};

}  // namespace limen::device
