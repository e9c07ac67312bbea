// The keyboard and the mouse behind the keyboard controller, as viewers reach them.
#pragma once

#include "device/i8042.h"
#include "display/input.h"

namespace limen::display {

class Ps2Input final : public KeySink, public PointerSink {
 public:
  /// Adds itself to `input`; both outlive it.
  Ps2Input(Input& input, device::I8042& controller) : input_(input), controller_(controller) {
    input_.add(static_cast<KeySink&>(*this));
    input_.add(static_cast<PointerSink&>(*this));
  }
  ~Ps2Input() override {
    input_.remove(static_cast<KeySink&>(*this));
    input_.remove(static_cast<PointerSink&>(*this));
  }

  void key(KeyCode code, bool down) override;
  [[nodiscard]] uint8_t leds() const override { return controller_.leds(); }

  [[nodiscard]] const char* name() const override { return "QEMU PS/2 Mouse"; }
  [[nodiscard]] bool absolute() const override { return false; }
  void move_by(int x, int y) override { controller_.move(x, -y); }
  void button(Button button, bool down) override;
  void wheel(int vertical, int /*horizontal*/) override { controller_.wheel(vertical); }
  void sync() override { controller_.report(); }

 private:
  Input& input_;
  device::I8042& controller_;
};

}  // namespace limen::display
