#include "pci/ich_lpc.h"

namespace limen::pci {

namespace {

constexpr uint16_t kPmBaseRegister = 0x40, kAcpiControl = 0x44;
constexpr uint16_t kPirqAtoD = 0x60, kSerialIrqControl = 0x64, kPirqEtoH = 0x68;
constexpr uint16_t kLpcDecode = 0x80, kLpcEnable = 0x82, kGenericDecode = 0x84;
constexpr uint8_t kAcpiEnable = 0x80;
constexpr uint8_t kNotRouted = 0x80;
/// ISA interrupts that a PIRQ can be routed to: 3-7, 9-12, 14, 15 (datasheet §13.1.8).
constexpr uint32_t kRoutableInterrupts = 0xDEF8;

constexpr uint16_t route_register(unsigned pirq) {
  return static_cast<uint16_t>(pirq < 4 ? kPirqAtoD + pirq : kPirqEtoH + pirq - 4);
}

}  // namespace

IchLpc::IchLpc(irq::InterruptSink& gsi, memory::IoSpace& ports, memory::IoHandler* pm)
    : PciFunction("ich9-lpc", {.vendor = 0x8086,
                               .device = 0x2918,
                               .revision = 2,
                               .class_code = 0x060100,
                               .subsystem_vendor = 0x1AF4,
                               .subsystem = 0x1100}),
      ports_(ports),
      pm_(pm) {
  set_register(kPmBaseRegister, 4, kPmBase | 1);  // bit 0: I/O space, read-only
  set_register_writable(kPmBaseRegister, 4, 0xFF80);
  set_register(kAcpiControl, 1, kAcpiEnable);
  set_register_writable(kAcpiControl, 1, 0x87);
  for (unsigned i = 0; i < kPirqCount; ++i) {
    set_register(route_register(i), 1, kNotRouted);
    set_register_writable(route_register(i), 1, 0x8F);
  }
  set_register(kSerialIrqControl, 1, 0x10);
  set_register_writable(kSerialIrqControl, 1, 0xFF);
  set_register_writable(kLpcDecode, 2, 0x1377);
  set_register_writable(kLpcEnable, 2, 0x3F0F);
  for (uint16_t i = 0; i < 4; ++i)
    set_register_writable(static_cast<uint16_t>(kGenericDecode + 4 * i), 4, 0x00FC'FFFD);
  routes_.fill(kNotRouted);
  gsi_.connect(gsi, 0);
  update_pm();
}

IchLpc::~IchLpc() {
  const std::lock_guard lock(mutex_);
  if (pm_claimed_at_ != 0) ports_.release(pm_claimed_at_, *pm_);
}

void IchLpc::reset() {
  PciFunction::reset();
  {
    const std::lock_guard lock(mutex_);
    pins_.fill(0);
  }
  update_routes();
  update_pm();
}

void IchLpc::config_written(uint16_t offset, unsigned size) {
  const auto touches = [&](unsigned start, unsigned length) {
    return offset < start + length && start < offset + size;
  };
  if (touches(kPmBaseRegister, 5)) update_pm();
  if (touches(kPirqAtoD, 4) || touches(kPirqEtoH, 4)) update_routes();
}

void IchLpc::update_pm() {
  if (pm_ == nullptr) return;
  const std::lock_guard lock(mutex_);
  const bool enabled = (register_value(kAcpiControl, 1) & kAcpiEnable) != 0;
  const uint64_t base = enabled ? register_value(kPmBaseRegister, 4) & 0xFF80 : 0;
  if (base == pm_claimed_at_) return;
  if (pm_claimed_at_ != 0) ports_.release(pm_claimed_at_, *pm_);
  pm_claimed_at_ = base;
  if (base != 0) ports_.claim(base, kPmSize, *pm_, "ACPI PM");
}

void IchLpc::update_routes() {
  {
    const std::lock_guard lock(mutex_);
    for (unsigned i = 0; i < kPirqCount; ++i)
      routes_[i] = static_cast<uint8_t>(register_value(route_register(i), 1));
    record_lines_locked();
  }
  gsi_.deliver();
}

void IchLpc::set_line(unsigned line, bool level) {
  const unsigned device = line / 4;
  if (device >= pins_.size()) return;
  {
    const std::lock_guard lock(mutex_);
    const auto bit = static_cast<uint8_t>(1u << line % 4);
    pins_[device] = static_cast<uint8_t>(level ? pins_[device] | bit : pins_[device] & ~bit);
    record_lines_locked();
  }
  gsi_.deliver();
}

void IchLpc::record_lines_locked() {
  uint32_t lines = 0;
  for (unsigned device = 0; device < pins_.size(); ++device)
    for (unsigned pin = 0; pins_[device] >> pin != 0; ++pin) {
      if ((pins_[device] >> pin & 1) == 0) continue;
      lines |= uint32_t{1} << intx_gsi(device, pin);
      const uint8_t route = routes_[intx_pirq(device, pin)];
      if ((route & kNotRouted) == 0) lines |= uint32_t{1} << (route & 0xF) & kRoutableInterrupts;
    }
  gsi_.record(~uint32_t{0}, lines);
}

}  // namespace limen::pci
