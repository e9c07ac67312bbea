#include "device/system_control.h"

namespace limen::device {

ResetControl::ResetControl(memory::IoSpace& ports, std::function<void()> reset_machine)
    : ports_(ports), reset_machine_(std::move(reset_machine)) {
  ports_.claim(kPort, 1, *this, "reset control");
}

ResetControl::~ResetControl() { ports_.release(kPort, *this); }

void ResetControl::reset() {
  const std::lock_guard lock(mutex_);
  value_ = 0;
}

uint64_t ResetControl::io_read(uint64_t, unsigned) {
  const std::lock_guard lock(mutex_);
  return value_;
}

void ResetControl::io_write(uint64_t, unsigned, uint64_t value) {
  constexpr uint8_t kResetCpu = 4, kWritable = 0x0A;
  {
    const std::lock_guard lock(mutex_);
    value_ = static_cast<uint8_t>(value & kWritable);
  }
  if ((value & kResetCpu) != 0 && reset_machine_) reset_machine_();
}

SystemControlPortA::SystemControlPortA(memory::IoSpace& ports, std::function<void()> reset_machine,
                                       std::function<void(bool)> a20)
    : ports_(ports), reset_machine_(std::move(reset_machine)), a20_(std::move(a20)) {
  ports_.claim(kPort, 1, *this, "port 92H");
}

SystemControlPortA::~SystemControlPortA() { ports_.release(kPort, *this); }

void SystemControlPortA::reset() {
  const std::lock_guard lock(mutex_);
  value_ = kA20;
}

uint64_t SystemControlPortA::io_read(uint64_t, unsigned) {
  const std::lock_guard lock(mutex_);
  return value_;
}

void SystemControlPortA::io_write(uint64_t, unsigned, uint64_t value) {
  uint8_t changed = 0;
  const auto byte = static_cast<uint8_t>(value & 0xFF);
  {
    const std::lock_guard lock(mutex_);
    changed = value_ ^ byte;
    value_ = byte & static_cast<uint8_t>(~kFastReset);
  }
  if ((changed & kA20) != 0 && a20_) a20_((byte & kA20) != 0);
  if ((byte & kFastReset) != 0 && reset_machine_) reset_machine_();
}

PostCodePort::PostCodePort(memory::IoSpace& ports) : ports_(ports) {
  ports_.claim(kPort, 1, *this, "POST codes");
}

PostCodePort::~PostCodePort() { ports_.release(kPort, *this); }

void PostCodePort::reset() { value_ = 0; }
uint64_t PostCodePort::io_read(uint64_t, unsigned) { return value_; }
void PostCodePort::io_write(uint64_t, unsigned, uint64_t value) {
  value_ = static_cast<uint8_t>(value & 0xFF);
}

}  // namespace limen::device
