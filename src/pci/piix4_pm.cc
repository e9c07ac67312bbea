#include "pci/piix4_pm.h"

namespace limen::pci {
namespace {

constexpr uint16_t kPmBase = 0x40, kDeviceActivityB = 0x58, kPmMiscellaneous = 0x80,
                   kSmBusBase = 0x90, kSmBusConfiguration = 0xD2;
constexpr uint32_t kApmcEnable = 1u << 25;
constexpr uint8_t kIoEnable = 1;

}  // namespace

Piix4Pm::Piix4Pm(memory::IoSpace& ports, memory::IoHandler& pm, uint16_t base)
    : PciFunction("PIIX4 PM", {.vendor = 0x8086,
                               .device = 0x7113,
                               .revision = 3,
                               .class_code = 0x068000,
                               .subsystem_vendor = 0x1AF4,
                               .subsystem = 0x1100}),
      ports_(ports),
      pm_(pm) {
  set_interrupt_pin(1);
  set_register(reg::kInterruptLine, 1, 9);
  set_register(kPmBase, 4, base | 1u);  // bit 0: I/O space, read-only
  set_register_writable(kPmBase, 4, 0xFFC0);
  // A write to port B2h would raise an SMI already: so firmware is told that nothing is to be set
  // up, there being no system management mode.
  set_register(kDeviceActivityB, 4, kApmcEnable);
  set_register_writable(kDeviceActivityB, 4, 0xFFFF'FFFF);
  set_register(kPmMiscellaneous, 1, base != 0 ? kIoEnable : 0);
  set_register_writable(kPmMiscellaneous, 1, kIoEnable);
  set_register(kSmBusBase, 4, 1);
  set_register_writable(kSmBusBase, 4, 0xFFF0);
  set_register_writable(kSmBusConfiguration, 1, 0x0F);
  update_pm();
}

Piix4Pm::~Piix4Pm() {
  const std::lock_guard lock(mutex_);
  if (claimed_at_ != 0) ports_.release(claimed_at_, pm_);
}

void Piix4Pm::reset() {
  PciFunction::reset();
  update_pm();
}

uint16_t Piix4Pm::pm_base() {
  const std::lock_guard lock(mutex_);
  return static_cast<uint16_t>(claimed_at_);
}

void Piix4Pm::config_written(uint16_t offset, unsigned size) {
  const auto touches = [&](unsigned start, unsigned length) {
    return offset < start + length && start < offset + size;
  };
  if (touches(kPmBase, 4) || touches(kPmMiscellaneous, 1)) update_pm();
}

void Piix4Pm::update_pm() {
  const std::lock_guard lock(mutex_);
  const bool enabled = (register_value(kPmMiscellaneous, 1) & kIoEnable) != 0;
  const uint64_t base = enabled ? register_value(kPmBase, 4) & 0xFFC0 : 0;
  if (base == claimed_at_) return;
  if (claimed_at_ != 0) ports_.release(claimed_at_, pm_);
  claimed_at_ = base;
  if (base != 0) ports_.claim(base, kPmSize, pm_, "ACPI PM");
}

}  // namespace limen::pci
