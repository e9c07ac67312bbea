#include "pci/config_ports.h"

#include <optional>

namespace limen::pci {
namespace {

constexpr uint64_t kFirstPort = 0xCF8, kPortCount = 8;
constexpr uint64_t kDataOffset = 4;
constexpr uint32_t kConfigEnable = 1u << 31;
constexpr uint64_t kOnes = ~uint64_t{0};

struct Target {
  uint8_t bus = 0;
  PciAddress address;
  uint16_t offset = 0;
};

/// What CF8h selects; nothing if it is off.
std::optional<Target> decode(uint32_t address, uint64_t data_offset) {
  if ((address & kConfigEnable) == 0) return std::nullopt;
  return Target{static_cast<uint8_t>(address >> 16),
                {static_cast<uint8_t>(address >> 11 & 31), static_cast<uint8_t>(address >> 8 & 7)},
                static_cast<uint16_t>((address & 0xFC) | (data_offset & 3))};
}

}  // namespace

ConfigPorts::ConfigPorts(PciBus& bus, memory::IoSpace& ports, memory::IoHandler* reset_control)
    : bus_(bus), ports_(ports), reset_control_(reset_control) {
  ports_.claim(kFirstPort, kPortCount, *this, "PCI configuration ports");
}

ConfigPorts::~ConfigPorts() { ports_.release(kFirstPort, *this); }

void ConfigPorts::reset() {
  const std::lock_guard lock(mutex_);
  address_ = 0;
}

uint64_t ConfigPorts::io_read(uint64_t offset, unsigned size) {
  if (offset < kDataOffset) {
    if (offset == 1 && size == 1 && reset_control_ != nullptr) return reset_control_->io_read(0, 1);
    if (offset != 0 || size != 4) return kOnes;
    const std::lock_guard lock(mutex_);
    return address_;
  }
  uint32_t address = 0;
  {
    const std::lock_guard lock(mutex_);
    address = address_;
  }
  const auto target = decode(address, offset);
  const PciBus* bus = target ? bus_.find_bus(target->bus) : nullptr;
  return bus != nullptr ? bus->config_read(target->address, target->offset, size) : kOnes;
}

void ConfigPorts::io_write(uint64_t offset, unsigned size, uint64_t value) {
  if (offset < kDataOffset) {
    if (offset == 1 && size == 1 && reset_control_ != nullptr)
      return reset_control_->io_write(0, 1, value);
    if (offset != 0 || size != 4) return;
    const std::lock_guard lock(mutex_);
    address_ = static_cast<uint32_t>(value) & 0x80FF'FFFC;
    return;
  }
  uint32_t address = 0;
  {
    const std::lock_guard lock(mutex_);
    address = address_;
  }
  const auto target = decode(address, offset);
  if (const PciBus* bus = target ? bus_.find_bus(target->bus) : nullptr)
    bus->config_write(target->address, target->offset, size, static_cast<uint32_t>(value));
}

}  // namespace limen::pci
