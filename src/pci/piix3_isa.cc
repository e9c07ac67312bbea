#include "pci/piix3_isa.h"

namespace limen::pci {
namespace {

constexpr uint16_t kPirqRegisters = 0x60, kXbusChipSelect = 0x4E, kTopOfMemory = 0x69;
constexpr uint8_t kNotRouted = 0x80;
/// ISA interrupts that a PIRQ can be routed to: 3-7, 9-12, 14, 15 (datasheet 2.2.9).
constexpr uint32_t kRoutableInterrupts = 0xDEF8;

}  // namespace

Piix3Isa::Piix3Isa(irq::InterruptSink& interrupts, const std::array<uint8_t, kPirqs>& routes)
    : PciFunction("PIIX3", {.vendor = 0x8086,
                            .device = 0x7000,
                            .revision = 0,
                            .class_code = 0x060100,
                            .subsystem_vendor = 0x1AF4,
                            .subsystem = 0x1100}) {
  set_multifunction();
  for (uint16_t i = 0; i < kPirqs; ++i) {
    const auto offset = static_cast<uint16_t>(kPirqRegisters + i);
    set_register(offset, 1, routes[i]);
    set_register_writable(offset, 1, 0x8F);
  }
  set_register(kXbusChipSelect, 2, 0x0003);
  set_register_writable(kXbusChipSelect, 2, 0x07FF);
  set_register(kTopOfMemory, 1, 0x02);
  set_register_writable(kTopOfMemory, 1, 0xFE);
  interrupts_.connect(interrupts, 0);
  update_routes();
}

void Piix3Isa::reset() {
  PciFunction::reset();
  {
    const std::lock_guard lock(mutex_);
    pins_.fill(0);
  }
  update_routes();
}

void Piix3Isa::config_written(uint16_t offset, unsigned size) {
  if (offset < kPirqRegisters + kPirqs && offset + size > kPirqRegisters) update_routes();
}

void Piix3Isa::update_routes() {
  {
    const std::lock_guard lock(mutex_);
    for (uint16_t i = 0; i < kPirqs; ++i)
      routes_[i] =
          static_cast<uint8_t>(register_value(static_cast<uint16_t>(kPirqRegisters + i), 1));
    record_lines_locked();
  }
  interrupts_.deliver();
}

void Piix3Isa::set_line(unsigned line, bool level) {
  const unsigned device = line / 4;
  if (device >= pins_.size()) return;
  {
    const std::lock_guard lock(mutex_);
    const auto bit = static_cast<uint8_t>(1u << line % 4);
    pins_[device] = static_cast<uint8_t>(level ? pins_[device] | bit : pins_[device] & ~bit);
    record_lines_locked();
  }
  interrupts_.deliver();
}

void Piix3Isa::record_lines_locked() {
  uint32_t lines = 0;
  for (unsigned device = 0; device < pins_.size(); ++device)
    for (unsigned pin = 0; pins_[device] >> pin != 0; ++pin) {
      if ((pins_[device] >> pin & 1) == 0) continue;
      const uint8_t route = routes_[pirq(device, pin)];
      if ((route & kNotRouted) == 0) lines |= uint32_t{1} << (route & 0xF) & kRoutableInterrupts;
    }
  interrupts_.record(0xFFFF, lines);
}

}  // namespace limen::pci
