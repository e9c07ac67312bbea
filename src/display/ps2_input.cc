#include "display/ps2_input.h"

namespace limen::display {

static_assert(kPause == device::Ps2Keyboard::kPause);
static_assert((0x37 | kExtended) == device::Ps2Keyboard::kPrint);

void Ps2Input::key(KeyCode code, bool down) {
  constexpr KeyCode kLast = 0xFF;
  if (code != 0 && code <= kLast)
    controller_.key(static_cast<device::Ps2Keyboard::Key>(code), down);
}

void Ps2Input::button(Button button, bool down) {
  using device::Ps2Mouse;
  switch (button) {
    case Button::kLeft:
      return controller_.button(Ps2Mouse::kLeft, down);
    case Button::kMiddle:
      return controller_.button(Ps2Mouse::kMiddle, down);
    case Button::kRight:
      return controller_.button(Ps2Mouse::kRight, down);
    case Button::kSide:
      return controller_.button(Ps2Mouse::kSide, down);
    case Button::kExtra:
      return controller_.button(Ps2Mouse::kExtra, down);
  }
}

}  // namespace limen::display
