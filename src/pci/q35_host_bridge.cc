#include "pci/q35_host_bridge.h"

namespace limen::pci {

namespace {

constexpr uint16_t kPciexbar = 0x60, kPam0 = 0x90, kSmram = 0x9D;

struct Target {
  uint8_t bus = 0;
  PciAddress address;
  uint16_t offset = 0;
};

/// Bus, device, function and register of an ECAM offset (PCI Express Base 5.0 §7.2.2).
Target decode_ecam(uint64_t offset) {
  return Target{static_cast<uint8_t>(offset >> 20),
                {static_cast<uint8_t>(offset >> 15 & 31), static_cast<uint8_t>(offset >> 12 & 7)},
                static_cast<uint16_t>(offset & 0xFFF)};
}

uint32_t read_target(const PciBus& root, const Target& target, unsigned further, unsigned size) {
  const PciBus* bus = root.find_bus(target.bus);
  if (bus == nullptr) return ~0u;
  return bus->config_read(target.address, static_cast<uint16_t>(target.offset + further), size);
}

void write_target(const PciBus& root, const Target& target, unsigned further, unsigned size,
                  uint32_t value) {
  if (const PciBus* bus = root.find_bus(target.bus))
    bus->config_write(target.address, static_cast<uint16_t>(target.offset + further), size, value);
}

}  // namespace

Q35HostBridge::Q35HostBridge(PciBus& bus, memory::IoSpace& ports, memory::IoSpace& mmio,
                             memory::IoHandler* reset_control, ShadowRam* shadow)
    : HostBridge("q35-host-bridge",
                 {.vendor = 0x8086,
                  .device = 0x29C0,
                  .revision = 0,
                  .class_code = 0x060000,
                  .subsystem_vendor = 0x1AF4,
                  .subsystem = 0x1100},
                 kPam0, bus, ports, reset_control, shadow),
      mmio_(mmio),
      ecam_(bus) {
  if (shadow == nullptr) set_register(kPciexbar, 4, static_cast<uint32_t>(kEcamDefaultBase) | 1);
  set_register_writable(kPciexbar, 4, 0xFC00'0007);
  set_register_writable(kPciexbar + 4, 4, 0xF);
  // There is no system management mode, and no memory for it.
  set_register_writable(kSmram, 1, 0x70);
  update_ecam();
}

Q35HostBridge::~Q35HostBridge() {
  const std::lock_guard lock(mutex_);
  if (ecam_size_ != 0) mmio_.release(ecam_base_, ecam_);
}

void Q35HostBridge::reset() {
  HostBridge::reset();
  update_ecam();
}

void Q35HostBridge::resume() {
  HostBridge::resume();
  update_ecam();
}

void Q35HostBridge::config_written(uint16_t offset, unsigned size) {
  if (offset < kPciexbar + 8 && offset + size > kPciexbar) update_ecam();
  HostBridge::config_written(offset, size);
}

void Q35HostBridge::update_ecam() {
  const std::lock_guard lock(mutex_);
  const uint64_t value = register_value(kPciexbar, 4) | uint64_t{register_value(kPciexbar + 4, 4)}
                                                            << 32;
  // Bits 2:1 give the length: 256, 128 or 64 MiB; the fourth value is reserved.
  const unsigned length = static_cast<unsigned>(value >> 1 & 3);
  uint64_t size = (value & 1) != 0 && length != 3 ? kEcamSize >> length : 0;
  const uint64_t base = value & 0xF'FC00'0000 & ~(size - 1);
  if (base == 0) size = 0;
  if (size == ecam_size_ && (size == 0 || base == ecam_base_)) return;
  if (ecam_size_ != 0) mmio_.release(ecam_base_, ecam_);
  ecam_base_ = base;
  ecam_size_ = size;
  if (size != 0) mmio_.claim(base, size, ecam_, "PCI ECAM");
}

uint64_t Q35HostBridge::Ecam::io_read(uint64_t offset, unsigned size) {
  const Target target = decode_ecam(offset);
  if (size == 8)
    return read_target(bus_, target, 0, 4) | uint64_t{read_target(bus_, target, 4, 4)} << 32;
  return read_target(bus_, target, 0, size);
}

void Q35HostBridge::Ecam::io_write(uint64_t offset, unsigned size, uint64_t value) {
  const Target target = decode_ecam(offset);
  write_target(bus_, target, 0, size == 8 ? 4 : size, static_cast<uint32_t>(value));
  if (size == 8) write_target(bus_, target, 4, 4, static_cast<uint32_t>(value >> 32));
}

}  // namespace limen::pci
