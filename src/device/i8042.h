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
#include "irq/interrupt_line.h"
#include "irq/line_output.h"
#include "memory/io_space.h"

namespace limen::device {

/// A PS/2 device's side of the wire: commands in, bytes out.
class Ps2Device {
 public:
  enum class Kind { kKeyboard, kMouse };
  explicit Ps2Device(Kind kind) : kind_(kind) {}

  void reset();
  /// A byte from the controller (IBM PS/2 Hardware Interface Technical Reference, "Keyboard and
  /// Auxiliary Device Controller").
  void command(uint8_t byte);
  /// Input from a person: scan codes, or a movement packet. False if it is off or its queue full.
  bool input(const uint8_t* bytes, size_t count);
  [[nodiscard]] bool has_output() const { return !output_.empty(); }
  uint8_t take_output();

 private:
  void reply(uint8_t byte);
  void set_defaults();
  void keyboard_command(uint8_t byte);
  void mouse_command(uint8_t byte);

  const Kind kind_;
  std::deque<uint8_t> output_;
  uint8_t expects_argument_ = 0;  ///< The command whose argument is next; 0: none.
  bool scanning_ = false;
  uint8_t scan_code_set_ = 2;
  uint8_t sample_rate_ = 100;
  uint8_t resolution_ = 2;
  bool scaling_ = false;
  bool remote_ = false;
  bool wrap_ = false;
  uint8_t last_reply_ = 0;
};

/// Intel 8042 as in the PS/2 (same reference) at ports 60H and 64H, in PS/2 mode with an auxiliary
/// port.
class I8042 final : public Device, public memory::IoHandler {
 public:
  static constexpr uint16_t kDataPort = 0x60;
  static constexpr uint16_t kCommandPort = 0x64;

  struct Callbacks {
    std::function<void()> reset;            ///< Output port bit 0 fell, or command FEH.
    std::function<void(bool enabled)> a20;  ///< Address line 20's gate changed.
  };

  I8042(memory::IoSpace& ports, irq::InterruptLine keyboard_line, irq::InterruptLine mouse_line,
        Callbacks callbacks);
  ~I8042() override;

  void reset() override;
  uint64_t io_read(uint64_t offset, unsigned size) override;  // port 60H
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

  /// Set-2 scan codes that a person typed; dropped while the keyboard is off. Thread-safe.
  void type(const uint8_t* scan_codes, size_t count);

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
  Ps2Device keyboard_{Ps2Device::Kind::kKeyboard};
  Ps2Device mouse_{Ps2Device::Kind::kMouse};
};

}  // namespace limen::device
