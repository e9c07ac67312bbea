// -device usb-kbd: a keyboard with the boot protocol (HID 1.11 Appendix B.1).
#pragma once

#include <bitset>
#include <deque>

#include "usb/hid/hid.h"

namespace limen::usb {

class Keyboard final : public Hid, public display::KeySink {
 public:
  /// Adds itself to `input` behind the keyboards that are there; both outlive it.
  Keyboard(const HidProperties& properties, EventLoop& loop, display::Input& input);
  ~Keyboard() override;

  void key(display::KeyCode code, bool down) override;
  [[nodiscard]] uint8_t leds() const override;

 private:
  struct Change {
    uint8_t usage;
    bool down;
  };
  void set_active(bool active) override;
  [[nodiscard]] bool changed() const override { return !changes_.empty(); }
  void advance() override;
  [[nodiscard]] std::vector<uint8_t> report() const override;
  void clear() override;
  void output(std::span<const uint8_t> bytes) override;

  display::Input& input_;
  // guarded by mutex_:
  std::deque<Change> changes_;
  std::bitset<256> queued_;    ///< Usages that are down once the changes are told.
  std::vector<uint8_t> down_;  ///< As told, without modifiers, in their order.
  uint8_t modifiers_ = 0;
  uint8_t leds_ = 0;  ///< As in the output report: bit 0 Num, 1 Caps, 2 Scroll.
};

}  // namespace limen::usb
