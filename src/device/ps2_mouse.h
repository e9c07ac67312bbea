// A PS/2 mouse with a wheel and five buttons.
#pragma once

#include <array>
#include <cstdint>

#include "device/ps2_device.h"

namespace limen::device {

/// A plain mouse (ID 0) until the guest's driver asks, by a sequence of sample rates, for the
/// packets of an IntelliMouse (ID 3: wheel) or an IntelliMouse Explorer (ID 4: buttons 4 and 5).
class Ps2Mouse final : public Ps2Device {
 public:
  enum Buttons : uint8_t { kLeft = 1, kRight = 2, kMiddle = 4, kSide = 8, kExtra = 16 };

  void reset() override;
  void command(uint8_t byte) override;
  /// Movement that did not fit into the queue follows when there is room.
  uint8_t take_output() override;

  // Gathered until report(): what a person does between two calls becomes one packet, or as many as
  // a large movement needs.

  /// To the right and up.
  void move(int x, int y);
  /// Away from the person.
  void wheel(int steps);
  void button(Buttons button, bool down);
  void report();

 private:
  void argument(uint8_t command, uint8_t byte);
  void set_defaults();
  [[nodiscard]] bool moved() const { return x_ != 0 || y_ != 0 || (id_ != 0 && wheel_ != 0); }
  [[nodiscard]] bool wants_to_report() const {
    return reporting_ && !remote_ && !wrap_ && (moved() || buttons_ != told_buttons_);
  }
  void send_packet();

  uint8_t id_ = 0;
  std::array<uint8_t, 3> rates_{};  ///< The last ones asked for, the latest at the end.
  uint8_t resolution_ = 2;
  bool scaling_ = false;
  bool remote_ = false;
  bool wrap_ = false;
  int x_ = 0, y_ = 0, wheel_ = 0;  ///< Not yet told.
  uint8_t buttons_ = 0;
  uint8_t told_buttons_ = 0;
};

}  // namespace limen::device
