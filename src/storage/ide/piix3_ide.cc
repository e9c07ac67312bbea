#include "storage/ide/piix3_ide.h"

#include <utility>

namespace limen::storage {
namespace {

constexpr uint64_t kMasterPorts = 16, kMasterPortsOfChannel = 8;
/// IDETIM of each channel: its ports are decoded. Firmware sets it; so does power-on here, for
/// kernels that come without any.
constexpr uint16_t kTiming = 0x40, kTimingSlave = 0x44;
constexpr uint16_t kDecode = 0x8000;
constexpr std::array<IdeChannel::Ports, Piix3Ide::kChannels> kPorts = {
    {{0x1F0, 0x3F6}, {0x170, 0x376}}};

}  // namespace

Piix3Ide::Piix3Ide(std::string name, memory::GuestMemory& memory, memory::IoSpace& ports,
                   const std::array<irq::InterruptLine, kChannels>& lines)
    : PciFunction(std::move(name), {.vendor = 0x8086,
                                    .device = 0x7010,
                                    .revision = 0,
                                    .class_code = 0x010180,  // IDE, bus master
                                    .subsystem_vendor = 0x1AF4,
                                    .subsystem = 0x1100}),
      bus_master_(*this) {
  constexpr std::array kNames = {"ide primary", "ide secondary"};
  for (unsigned i = 0; i < kChannels; ++i) {
    channels_[i] = std::make_unique<IdeChannel>(memory, ports, kPorts[i], lines[i], kNames[i]);
    const auto timing = static_cast<uint16_t>(kTiming + 2 * i);
    set_register(timing, 2, kDecode);
    set_register_writable(timing, 2, 0xFFFF);
  }
  set_register_writable(kTimingSlave, 1, 0xFF);
  set_bar(kMasterBar, {.kind = pci::BarKind::kIo, .size = kMasterPorts, .handler = &bus_master_});
}

Piix3Ide::~Piix3Ide() = default;

Result<> Piix3Ide::attach_drive(unsigned channel, unsigned unit,
                                std::unique_ptr<ata::Device> device) {
  return channels_[channel]->attach(unit, std::move(device));
}

void Piix3Ide::reset() {
  for (auto& channel : channels_) channel->reset();
  PciFunction::reset();
}

uint64_t Piix3Ide::BusMaster::io_read(uint64_t offset, unsigned size) {
  auto& channel = *function.channels_[offset / kMasterPortsOfChannel];
  return channel.bus_master_read(offset % kMasterPortsOfChannel, size);
}

void Piix3Ide::BusMaster::io_write(uint64_t offset, unsigned size, uint64_t value) {
  auto& channel = *function.channels_[offset / kMasterPortsOfChannel];
  channel.bus_master_write(offset % kMasterPortsOfChannel, size, value);
}

}  // namespace limen::storage
