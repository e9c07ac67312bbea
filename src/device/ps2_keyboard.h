// A PS/2 keyboard with 105 keys.
#pragma once

#include <bitset>
#include <cstdint>
#include <vector>

#include "device/ps2_device.h"

namespace limen::device {

/// Speaks scan code sets 1 to 3 as the guest selects. It does not repeat keys that are held:
/// whoever types does.
class Ps2Keyboard final : public Ps2Device {
 public:
  /// A key's make code in scan code set 1, those with the prefix E0H with bit 7 set.
  using Key = uint8_t;
  static constexpr Key kPause = 0xC6;
  static constexpr Key kPrint = 0xB7;

  void reset() override;
  void command(uint8_t byte) override;

  /// Dropped while the guest has the keyboard off, and, a press, while it does not take what is
  /// there already. The release of a key that was told of is always told, too.
  void key(Key key, bool down);
  /// Bit 0 Scroll Lock, 1 Num Lock, 2 Caps Lock.
  [[nodiscard]] uint8_t leds() const { return leds_; }

 private:
  void argument(uint8_t command, uint8_t byte);
  void set_defaults();
  [[nodiscard]] std::vector<uint8_t> codes(Key key, bool down) const;

  uint8_t scan_code_set_ = 2;
  uint8_t leds_ = 0;
  std::bitset<256> down_;
};

}  // namespace limen::device
