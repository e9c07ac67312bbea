// -device usb-mouse and usb-tablet: a boot mouse, and a pointer with absolute positions (HID 1.11
// Appendix B.2, HID Usage Tables 1.12 chapter 4).
#pragma once

#include <deque>

#include "usb/hid/hid.h"

namespace limen::usb {

class Pointer final : public Hid, public display::PointerSink {
 public:
  /// Adds itself to `input` behind the pointers that are there; both outlive it.
  Pointer(bool tablet, const HidProperties& properties, EventLoop& loop, display::Input& input);
  ~Pointer() override;

  [[nodiscard]] const char* name() const override {
    return tablet_ ? "QEMU HID Tablet" : "QEMU HID Mouse";
  }
  [[nodiscard]] bool absolute() const override { return tablet_; }
  void move_by(int x, int y) override;
  void move_to(unsigned x, unsigned y) override;
  void button(display::Button button, bool down) override;
  void wheel(int vertical, int horizontal) override;
  void sync() override;

 private:
  struct Change {
    int x = 0, y = 0;  ///< Steps, or a tablet's place.
    int wheel = 0;
    uint8_t buttons = 0;
    friend bool operator==(const Change&, const Change&) = default;
  };
  void set_active(bool active) override;
  [[nodiscard]] bool changed() const override { return !changes_.empty(); }
  void advance() override;
  [[nodiscard]] std::vector<uint8_t> report() const override;
  void reported() override;
  void clear() override;
  [[nodiscard]] bool ends_in_movement() const;

  const bool tablet_;
  display::Input& input_;
  // guarded by mutex_:
  Change next_;       ///< What came since the last sync().
  bool any_ = false;  ///< Something did.
  std::deque<Change> changes_;
  Change told_;
};

}  // namespace limen::usb
