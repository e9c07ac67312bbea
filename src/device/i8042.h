// The keyboard controller with a PS/2 keyboard and mouse.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "device/device.h"
#include "device/ps2_keyboard.h"
#include "device/ps2_mouse.h"
#include "irq/interrupt_line.h"
#include "irq/line_output.h"
#include "memory/io_space.h"

namespace limen::device {

/// Intel 8042 as in the PS/2 (same reference) at ports 60H and 64H, in PS/2 mode with an auxiliary
/// port.
class I8042 final : public Device, public memory::IoHandler {
 public:
  static constexpr uint16_t kDataPort = 0x60;
  static constexpr uint16_t kCommandPort = 0x64;

  struct Callbacks {
    std::function<void()> reset;            ///< Output port bit 0 fell, or command FEH.
    std::function<void(bool enabled)> a20;  ///< Address line 20's gate changed.
    std::function<void()> used = {};        ///< A person moved a key or a button. On any thread.
  };

  I8042(memory::IoSpace& ports, irq::InterruptLine keyboard_line, irq::InterruptLine mouse_line,
        Callbacks callbacks);
  ~I8042() override;

  void reset() override;
  uint64_t io_read(uint64_t offset, unsigned size) override;  // port 60H
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

  // What a person does; see Ps2Keyboard and Ps2Mouse. Thread-safe.
  void key(Ps2Keyboard::Key key, bool down);
  [[nodiscard]] uint8_t leds();
  void move(int right, int up);
  void wheel(int steps);
  void button(Ps2Mouse::Buttons button, bool down);
  /// A person's movement is complete.
  void report();

 private:
  class CommandPort;
  struct Actions {
    bool reset = false;
    bool a20_changed = false;
    bool a20 = true;
  };

  // mutex_ held.
  uint8_t read_data();
  uint8_t read_status();
  void write_data(uint8_t value, Actions& actions);
  void write_command(uint8_t value, Actions& actions);
  void write_output_port(uint8_t value, Actions& actions);
  void put(uint8_t byte, bool auxiliary);
  void fill_output();
  void update_lines();
  void reset_registers();
  // mutex_ not held.
  void finish(const Actions& actions);
  template <typename Work>
  void with_devices(const Work& work);

  memory::IoSpace& ports_;
  irq::LineOutput keyboard_line_;
  irq::LineOutput mouse_line_;
  const Callbacks callbacks_;
  std::unique_ptr<CommandPort> command_port_;

  std::mutex mutex_;
  uint8_t command_byte_ = 0;
  uint8_t output_port_ = 0;
  uint8_t pending_command_ = 0;  // the command whose argument is next; 0: none
  uint8_t status_ = 0;
  uint8_t output_ = 0;                                      // the output buffer
  std::array<uint8_t, 32> memory_{};                        // the controller's internal RAM
  bool break_prefix_ = false;                               // F0H was seen while translating
  std::deque<std::pair<uint8_t, bool>> controller_output_;  // byte, from the auxiliary port
  Ps2Keyboard keyboard_;
  Ps2Mouse mouse_;
};

}  // namespace limen::device
