#include "pci/q35_host_bridge.h"

namespace limen::pci {

namespace {

constexpr uint16_t kPciexbar = 0x60, kPam0 = 0x90, kSmram = 0x9D;
constexpr uint64_t kConfigPorts = 0xCF8, kConfigPortsSize = 8;
constexpr uint64_t kDataOffset = 4;
constexpr uint32_t kConfigEnable = 1u << 31;
constexpr uint64_t kOnes = ~uint64_t{0};

struct Target {
  uint8_t bus = 0;
  PciAddress address;
  uint16_t offset = 0;
};

/// What CF8h selects (PCI Local Bus 3.0 §3.2.2.3.2); nothing if it is off.
std::optional<Target> decode_port(uint32_t address, uint64_t data_offset) {
  if ((address & kConfigEnable) == 0) return std::nullopt;
  return Target{static_cast<uint8_t>(address >> 16),
                {static_cast<uint8_t>(address >> 11 & 31), static_cast<uint8_t>(address >> 8 & 7)},
                static_cast<uint16_t>((address & 0xFC) | (data_offset & 3))};
}

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
                             memory::IoHandler* reset_control)
    : PciFunction("q35-host-bridge", {.vendor = 0x8086,
                                      .device = 0x29C0,
                                      .revision = 0,
                                      .class_code = 0x060000,
                                      .subsystem_vendor = 0x1AF4,
                                      .subsystem = 0x1100}),
      bus_(bus),
      port_space_(ports),
      mmio_(mmio),
      reset_control_(reset_control),
      ecam_(bus) {
  set_register(kPciexbar, 4, static_cast<uint32_t>(kEcamDefaultBase) | 1);
  set_register_writable(kPciexbar, 4, 0xFC00'0007);
  set_register_writable(kPciexbar + 4, 4, 0xF);
  // The shadow-memory and SMRAM registers hold what is written; the RAM behind them is always RAM.
  set_register_writable(kPam0, 4, 0x3333'3330);
  set_register_writable(kPam0 + 4, 2, 0x3333);
  set_register_writable(kPam0 + 6, 1, 0x33);
  set_register_writable(kSmram, 1, 0x70);
  port_space_.claim(kConfigPorts, kConfigPortsSize, ports_, "PCI configuration ports");
  update_ecam();
}

Q35HostBridge::~Q35HostBridge() {
  port_space_.release(kConfigPorts, ports_);
  const std::lock_guard lock(mutex_);
  if (ecam_size_ != 0) mmio_.release(ecam_base_, ecam_);
}

void Q35HostBridge::reset() {
  PciFunction::reset();
  {
    const std::lock_guard lock(mutex_);
    config_address_ = 0;
  }
  update_ecam();
}

void Q35HostBridge::config_written(uint16_t offset, unsigned size) {
  if (offset < kPciexbar + 8 && offset + size > kPciexbar) update_ecam();
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

uint64_t Q35HostBridge::Ports::io_read(uint64_t offset, unsigned size) {
  if (offset < kDataOffset) {
    if (offset == 1 && size == 1 && bridge_.reset_control_ != nullptr)
      return bridge_.reset_control_->io_read(0, 1);
    if (offset != 0 || size != 4) return kOnes;
    const std::lock_guard lock(bridge_.mutex_);
    return bridge_.config_address_;
  }
  uint32_t address = 0;
  {
    const std::lock_guard lock(bridge_.mutex_);
    address = bridge_.config_address_;
  }
  const auto target = decode_port(address, offset);
  return target ? read_target(bridge_.bus_, *target, 0, size) : kOnes;
}

void Q35HostBridge::Ports::io_write(uint64_t offset, unsigned size, uint64_t value) {
  if (offset < kDataOffset) {
    if (offset == 1 && size == 1 && bridge_.reset_control_ != nullptr)
      return bridge_.reset_control_->io_write(0, 1, value);
    if (offset != 0 || size != 4) return;
    const std::lock_guard lock(bridge_.mutex_);
    bridge_.config_address_ = static_cast<uint32_t>(value) & 0x80FF'FFFC;
    return;
  }
  uint32_t address = 0;
  {
    const std::lock_guard lock(bridge_.mutex_);
    address = bridge_.config_address_;
  }
  if (const auto target = decode_port(address, offset))
    write_target(bridge_.bus_, *target, 0, size, static_cast<uint32_t>(value));
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
