#include "device/i8042.h"

namespace limen::device {
namespace {

// Status register.
constexpr uint8_t kOutputFull = 0x01, kSystemFlag = 0x04, kCommandLast = 0x08, kNotInhibited = 0x10,
                  kAuxiliaryOutput = 0x20;
// Command byte.
constexpr uint8_t kKeyboardInterrupt = 0x01, kMouseInterrupt = 0x02, kSystem = 0x04,
                  kKeyboardOff = 0x10, kMouseOff = 0x20, kTranslate = 0x40;
// Output port.
constexpr uint8_t kNotReset = 0x01, kA20 = 0x02;

/// Scan codes of set 2 to those of set 1, as the controller translates them (PS/2 reference, figure
/// "Scan code translate table").
constexpr std::array<uint8_t, 128> kTranslation = {
    0xFF, 0x43, 0x41, 0x3F, 0x3D, 0x3B, 0x3C, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3E, 0x0F, 0x29, 0x59,
    0x65, 0x38, 0x2A, 0x70, 0x1D, 0x10, 0x02, 0x5A, 0x66, 0x71, 0x2C, 0x1F, 0x1E, 0x11, 0x03, 0x5B,
    0x67, 0x2E, 0x2D, 0x20, 0x12, 0x05, 0x04, 0x5C, 0x68, 0x39, 0x2F, 0x21, 0x14, 0x13, 0x06, 0x5D,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5E, 0x6A, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5F,
    0x6B, 0x33, 0x25, 0x17, 0x18, 0x0B, 0x0A, 0x60, 0x6C, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0C, 0x61,
    0x6D, 0x73, 0x28, 0x74, 0x1A, 0x0D, 0x62, 0x6E, 0x3A, 0x36, 0x1C, 0x1B, 0x75, 0x2B, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7A, 0x0E, 0x7B, 0x7C, 0x4F, 0x7D, 0x4B, 0x47, 0x7E, 0x7F, 0x6F,
    0x52, 0x53, 0x50, 0x4C, 0x4D, 0x48, 0x01, 0x45, 0x57, 0x4E, 0x51, 0x4A, 0x37, 0x49, 0x46, 0x54,
};

}  // namespace

class I8042::CommandPort final : public memory::IoHandler {
 public:
  explicit CommandPort(I8042& controller) : controller_(controller) {}
  uint64_t io_read(uint64_t, unsigned) override {
    const std::lock_guard lock(controller_.mutex_);
    return controller_.read_status();
  }
  void io_write(uint64_t, unsigned, uint64_t value) override {
    Actions actions;
    {
      const std::lock_guard lock(controller_.mutex_);
      controller_.write_command(static_cast<uint8_t>(value & 0xFF), actions);
      controller_.update_lines();
    }
    controller_.finish(actions);
  }

 private:
  I8042& controller_;
};

I8042::I8042(memory::IoSpace& ports, irq::InterruptLine keyboard_line,
             irq::InterruptLine mouse_line, Callbacks callbacks)
    : ports_(ports),
      keyboard_line_(keyboard_line),
      mouse_line_(mouse_line),
      callbacks_(std::move(callbacks)),
      command_port_(std::make_unique<CommandPort>(*this)) {
  reset_registers();
  ports_.claim(kDataPort, 1, *this, "8042");
  ports_.claim(kCommandPort, 1, *command_port_, "8042");
}

I8042::~I8042() {
  ports_.release(kDataPort, *this);
  ports_.release(kCommandPort, *command_port_);
}

void I8042::reset_registers() {
  // As firmware leaves it after its self test: both interrupts on, translating.
  command_byte_ = kKeyboardInterrupt | kMouseInterrupt | kSystem | kTranslate;
  output_port_ = kNotReset | kA20 | 0xCC;
  pending_command_ = 0;
  status_ = kSystemFlag | kNotInhibited;
  output_ = 0;
  break_prefix_ = false;
  memory_.fill(0);
  controller_output_.clear();
  keyboard_.reset();
  mouse_.reset();
}

void I8042::reset() {
  {
    const std::lock_guard lock(mutex_);
    reset_registers();
    update_lines();
  }
  finish({});
}

void I8042::finish(const Actions& actions) {
  keyboard_line_.publish();
  mouse_line_.publish();
  if (actions.a20_changed && callbacks_.a20) callbacks_.a20(actions.a20);
  if (actions.reset && callbacks_.reset) callbacks_.reset();
}

uint64_t I8042::io_read(uint64_t /*offset*/, unsigned /*size*/) {
  uint8_t value = 0;
  {
    const std::lock_guard lock(mutex_);
    value = read_data();
    // The line falls for the byte that was taken, so that the next one makes an edge.
    keyboard_line_.want(false);
    mouse_line_.want(false);
  }
  finish({});
  {
    const std::lock_guard lock(mutex_);
    fill_output();
    update_lines();
  }
  finish({});
  return value;
}

void I8042::io_write(uint64_t /*offset*/, unsigned /*size*/, uint64_t value) {
  Actions actions;
  {
    const std::lock_guard lock(mutex_);
    write_data(static_cast<uint8_t>(value & 0xFF), actions);
    fill_output();
    update_lines();
  }
  finish(actions);
}

template <typename Work>
void I8042::with_devices(const Work& work) {
  {
    const std::lock_guard lock(mutex_);
    work();
    fill_output();
    update_lines();
  }
  finish({});
}

void I8042::key(Ps2Keyboard::Key key, bool down) {
  with_devices([&] { keyboard_.key(key, down); });
  if (callbacks_.used) callbacks_.used();
}

uint8_t I8042::leds() {
  const std::lock_guard lock(mutex_);
  return keyboard_.leds();
}

// Nothing shows before report().

void I8042::move(int right, int up) {
  const std::lock_guard lock(mutex_);
  mouse_.move(right, up);
}

void I8042::wheel(int steps) {
  const std::lock_guard lock(mutex_);
  mouse_.wheel(steps);
}

void I8042::button(Ps2Mouse::Buttons button, bool down) {
  with_devices([&] { mouse_.button(button, down); });
  if (callbacks_.used) callbacks_.used();
}

void I8042::report() {
  with_devices([&] { mouse_.report(); });
}

uint8_t I8042::read_status() {
  fill_output();
  return status_;
}

uint8_t I8042::read_data() {
  status_ &= static_cast<uint8_t>(~(kOutputFull | kAuxiliaryOutput));
  return output_;
}

void I8042::put(uint8_t byte, bool auxiliary) {
  output_ = byte;
  status_ |= kOutputFull;
  status_ =
      static_cast<uint8_t>(auxiliary ? status_ | kAuxiliaryOutput : status_ & ~kAuxiliaryOutput);
}

/// Moves the next byte into the output buffer if that is empty: the controller's own answers first.
void I8042::fill_output() {
  if ((status_ & kOutputFull) != 0) return;
  if (!controller_output_.empty()) {
    const auto [byte, auxiliary] = controller_output_.front();
    controller_output_.pop_front();
    put(byte, auxiliary);
    return;
  }
  while ((command_byte_ & kKeyboardOff) == 0 && keyboard_.has_output()) {
    uint8_t byte = keyboard_.take_output();
    if ((command_byte_ & kTranslate) != 0) {
      if (byte == 0xF0) {  // a key was released: bit 7 of the next code says so
        break_prefix_ = true;
        continue;
      }
      if (byte < kTranslation.size())
        byte = kTranslation[byte];
      else if (byte == 0x83)
        byte = 0x41;  // F7
      else if (byte == 0x84)
        byte = 0x54;  // Alt and SysRq
      if (std::exchange(break_prefix_, false)) byte |= 0x80;
    }
    put(byte, false);
    return;
  }
  if ((command_byte_ & kMouseOff) == 0 && mouse_.has_output()) put(mouse_.take_output(), true);
}

void I8042::update_lines() {
  const bool full = (status_ & kOutputFull) != 0;
  const bool auxiliary = (status_ & kAuxiliaryOutput) != 0;
  keyboard_line_.want(full && !auxiliary && (command_byte_ & kKeyboardInterrupt) != 0);
  mouse_line_.want(full && auxiliary && (command_byte_ & kMouseInterrupt) != 0);
}

void I8042::write_output_port(uint8_t value, Actions& actions) {
  if (((output_port_ ^ value) & kA20) != 0) {
    actions.a20_changed = true;
    actions.a20 = (value & kA20) != 0;
  }
  actions.reset = (value & kNotReset) == 0;
  output_port_ = value | kNotReset;
}

void I8042::write_command(uint8_t value, Actions& actions) {
  status_ |= kCommandLast;
  pending_command_ = 0;
  const auto answer = [this](uint8_t byte) {
    // What was not read is lost: the controller has one output buffer.
    controller_output_.clear();
    controller_output_.emplace_back(byte, false);
    fill_output();
  };
  if (value >= 0x20 && value <= 0x3F) {
    answer(value == 0x20 ? command_byte_ : memory_[value & 0x1F]);
    return;
  }
  if (value >= 0xF0) {  // pulse the output port's bits that are 0; bit 0 is reset
    actions.reset = (value & 1) == 0;
    return;
  }
  switch (value) {
    case 0xA7:
      command_byte_ |= kMouseOff;
      break;
    case 0xA8:
      command_byte_ &= static_cast<uint8_t>(~kMouseOff);
      break;
    case 0xA9:  // test of the auxiliary port's lines
    case 0xAB:  // ... and of the keyboard's
      answer(0x00);
      break;
    case 0xAA:  // self test
      status_ |= kSystemFlag;
      answer(0x55);
      break;
    case 0xAD:
      command_byte_ |= kKeyboardOff;
      break;
    case 0xAE:
      command_byte_ &= static_cast<uint8_t>(~kKeyboardOff);
      break;
    case 0xC0:  // input port: keyboard not locked
      answer(0x80);
      break;
    case 0xD0:
      answer(output_port_);
      break;
    case 0xDD:
    case 0xDF:  // A20 off, on
      write_output_port(
          static_cast<uint8_t>(value == 0xDF ? output_port_ | kA20 : output_port_ & ~kA20),
          actions);
      break;
    case 0xE0:  // test inputs: neither clock is held
      answer(0x00);
      break;
    default:
      // 60H-7FH and D1H-D4H have an argument; what is unknown is ignored.
      if ((value >= 0x60 && value <= 0x7F) || (value >= 0xD1 && value <= 0xD4))
        pending_command_ = value;
      break;
  }
}

void I8042::write_data(uint8_t value, Actions& actions) {
  status_ &= static_cast<uint8_t>(~kCommandLast);
  const uint8_t command = std::exchange(pending_command_, 0);
  if (command >= 0x61 && command <= 0x7F) {
    memory_[command & 0x1F] = value;
    return;
  }
  switch (command) {
    case 0x60:
      command_byte_ = value;
      status_ = static_cast<uint8_t>((value & kSystem) != 0 ? status_ | kSystemFlag
                                                            : status_ & ~kSystemFlag);
      break;
    case 0xD1:
      write_output_port(value, actions);
      break;
    case 0xD2:
    case 0xD3:  // comes back as if from the mouse: by this Linux finds the auxiliary port
      controller_output_.clear();
      controller_output_.emplace_back(value, command == 0xD3);
      break;
    case 0xD4:
      mouse_.command(value);
      break;
    default:
      // Sending to the keyboard turns its interface on.
      command_byte_ &= static_cast<uint8_t>(~kKeyboardOff);
      keyboard_.command(value);
      break;
  }
}

}  // namespace limen::device
