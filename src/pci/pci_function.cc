#include "pci/pci_function.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace limen::pci {

namespace {

constexpr uint8_t kMsiCapability = 0x05;
constexpr uint16_t kMsiControl = 2, kMsiAddress = 4, kMsiUpperAddress = 8, kMsiData = 12;
constexpr uint16_t kMsiEnable = 1 << 0, kMsi64Bits = 1 << 7;
constexpr uint8_t kMsixCapability = 0x11;
constexpr uint16_t kMsixControl = 2, kMsixTable = 4, kMsixPending = 8;
constexpr uint16_t kMsixEnable = 1 << 15, kMsixFunctionMask = 1 << 14;
constexpr uint16_t kRom = 0x30;
constexpr uint32_t kRomEnable = 1;
constexpr uint16_t kStatusInterrupt = 1 << 3, kStatusCapabilities = 1 << 4;
constexpr uint8_t kHeaderMultifunction = 0x80;

constexpr uint16_t bar_offset(unsigned index) {
  return static_cast<uint16_t>(reg::kBar0 + 4 * index);
}
constexpr bool overlaps(unsigned offset, unsigned size, unsigned start, unsigned length) {
  return offset < start + length && start < offset + size;
}

}  // namespace

PciFunction::PciFunction(std::string name, const Identity& identity) : name_(std::move(name)) {
  space_.set16(reg::kVendorId, identity.vendor);
  space_.set16(reg::kDeviceId, identity.device);
  space_.set32(reg::kRevision, identity.class_code << 8 | identity.revision);
  space_.set16(reg::kSubsystemVendorId, identity.subsystem_vendor);
  space_.set16(reg::kSubsystemId, identity.subsystem);
  space_.set_writable(reg::kCommand, 2,
                      command::kIo | command::kMemory | command::kBusMaster | command::kParity |
                          command::kSerr | command::kInterruptDisable);
  space_.set_writable(reg::kCacheLineSize, 1, 0xFF);
  space_.set_writable(reg::kInterruptLine, 1, 0xFF);
  power_on_ = space_;
}

PciFunction::~PciFunction() {
  const std::lock_guard lock(config_mutex_);
  unmap_all_locked();
}

void PciFunction::attach(PciAddress address, const BusConnections& connections) {
  address_ = address;
  connections_ = connections;
  if (msix_ != nullptr && connections.msi != nullptr) msix_->connect(*connections.msi);
}

void PciFunction::set_multifunction() {
  const std::lock_guard lock(config_mutex_);
  const auto type = static_cast<uint8_t>(space_.get8(reg::kHeaderType) | kHeaderMultifunction);
  space_.set8(reg::kHeaderType, type);
  power_on_.set8(reg::kHeaderType, type);
}

void PciFunction::set_bar(unsigned index, const Bar& bar) {
  const std::lock_guard lock(config_mutex_);
  bars_[index].config = bar;
  const uint64_t mask = ~(bar.size - 1);
  uint32_t flags = 1;  // I/O space
  if (bar.kind != BarKind::kIo) {
    flags = bar.kind == BarKind::kMemory64 ? 0b100 : 0;
    if (bar.prefetchable) flags |= 0b1000;
  }
  space_.set32(bar_offset(index), flags);
  space_.set_writable(bar_offset(index), 4, static_cast<uint32_t>(mask));
  if (bar.kind == BarKind::kMemory64)
    space_.set_writable(bar_offset(index + 1), 4, static_cast<uint32_t>(mask >> 32));
  power_on_ = space_;
}

uint16_t PciFunction::add_capability(uint8_t id, uint8_t size) {
  const std::lock_guard lock(config_mutex_);
  const uint16_t offset = free_capability_;
  // The list is kept in order of addition: the last one, or the header, points to the new one.
  const auto pointer =
      last_capability_ == 0 ? reg::kCapabilities : static_cast<uint16_t>(last_capability_ + 1);
  space_.set8(pointer, static_cast<uint8_t>(offset));
  space_.set8(offset, id);
  space_.set16(reg::kStatus,
               static_cast<uint16_t>(space_.get16(reg::kStatus) | kStatusCapabilities));
  last_capability_ = offset;
  free_capability_ = static_cast<uint16_t>((offset + size + 3u) & ~3u);
  power_on_ = space_;
  return offset;
}

void PciFunction::add_msix(unsigned bar_index, unsigned vectors) {
  msix_ = std::make_unique<MsixTable>(vectors);
  set_bar(bar_index, {.kind = BarKind::kMemory32,
                      .prefetchable = false,
                      .size = msix_->bar_size(),
                      .handler = msix_.get()});
  msix_capability_ = add_capability(kMsixCapability, 12);
  const auto at = [this](uint16_t field) {
    return static_cast<uint16_t>(msix_capability_ + field);
  };
  set_register(at(kMsixControl), 2, msix_->vectors() - 1);
  set_register(at(kMsixTable), 4, bar_index);
  set_register(at(kMsixPending), 4, msix_->pending_offset() | bar_index);
  set_register_writable(at(kMsixControl), 2, kMsixEnable | kMsixFunctionMask);
}

void PciFunction::add_msi() {
  msi_capability_ = add_capability(kMsiCapability, 14);
  const auto at = [this](uint16_t field) { return static_cast<uint16_t>(msi_capability_ + field); };
  set_register(at(kMsiControl), 2, kMsi64Bits);
  set_register_writable(at(kMsiControl), 2, kMsiEnable);
  set_register_writable(at(kMsiAddress), 4, ~3u);
  set_register_writable(at(kMsiUpperAddress), 4, ~0u);
  set_register_writable(at(kMsiData), 2, 0xFFFF);
}

bool PciFunction::msi_enabled() const {
  if (msi_capability_ == 0) return false;
  const auto control = static_cast<uint16_t>(msi_capability_ + kMsiControl);
  return (register_value(control, 2) & kMsiEnable) != 0;
}

void PciFunction::send_msi() {
  irq::MsiMessage message;
  {
    const std::lock_guard lock(config_mutex_);
    const auto field = [this](uint16_t at, unsigned size) {
      return space_.read(static_cast<uint16_t>(msi_capability_ + at), size);
    };
    if (msi_capability_ == 0 || connections_.msi == nullptr ||
        (field(kMsiControl, 2) & kMsiEnable) == 0 ||
        (space_.get16(reg::kCommand) & command::kBusMaster) == 0)
      return;
    message = {field(kMsiAddress, 4) | uint64_t{field(kMsiUpperAddress, 4)} << 32,
               field(kMsiData, 2)};
  }
  connections_.msi->send_msi(message);
}

void PciFunction::set_interrupt_pin(uint8_t pin) { set_register(reg::kInterruptPin, 1, pin); }

uint8_t PciFunction::interrupt_pin() const {
  const std::lock_guard lock(config_mutex_);
  return space_.get8(reg::kInterruptPin);
}

void PciFunction::set_register(uint16_t offset, unsigned size, uint32_t value) {
  const std::lock_guard lock(config_mutex_);
  for (unsigned i = 0; i < size; ++i) {
    const auto at = static_cast<uint16_t>(offset + i);
    space_.set8(at, static_cast<uint8_t>(value >> (8 * i)));
    if (connections_.mmio == nullptr) power_on_.set8(at, static_cast<uint8_t>(value >> (8 * i)));
  }
}

void PciFunction::set_register_writable(uint16_t offset, unsigned size, uint32_t mask) {
  const std::lock_guard lock(config_mutex_);
  space_.set_writable(offset, size, mask);
  power_on_.set_writable(offset, size, mask);
}

uint32_t PciFunction::register_value(uint16_t offset, unsigned size) const {
  const std::lock_guard lock(config_mutex_);
  return space_.read(offset, size);
}

bool PciFunction::bus_master() const {
  const std::lock_guard lock(config_mutex_);
  return (space_.get16(reg::kCommand) & command::kBusMaster) != 0;
}

uint32_t PciFunction::config_read(uint16_t offset, unsigned size) {
  if ((size != 1 && size != 2 && size != 4) || offset + size > ConfigurationSpace::kSize)
    return 0xFFFF'FFFF;
  if (const auto value = config_read_hook(offset, size)) return *value;
  const std::lock_guard lock(config_mutex_);
  return space_.read(offset, size);
}

void PciFunction::config_write(uint16_t offset, unsigned size, uint32_t value) {
  if ((size != 1 && size != 2 && size != 4) || offset + size > ConfigurationSpace::kSize) return;
  const bool command = overlaps(offset, size, reg::kCommand, 2);
  {
    const std::lock_guard lock(config_mutex_);
    space_.write(offset, size, value);
    if (command || overlaps(offset, size, reg::kBar0, 4 * kBarCount)) update_mappings_locked();
    if (command || overlaps(offset, size, kRom, 4)) update_rom_locked();
    if (command) record_intx_locked();
  }
  if (command) deliver_intx();
  if (msix_ != nullptr && (command || overlaps(offset, size, msix_capability_ + kMsixControl, 2)))
    update_msix();
  config_written(offset, size);
}

void PciFunction::config_written(uint16_t, unsigned) {}

std::optional<uint32_t> PciFunction::config_read_hook(uint16_t, unsigned) { return std::nullopt; }

std::optional<uint64_t> PciFunction::bar_mapping(unsigned index) const {
  const std::lock_guard lock(config_mutex_);
  if (!bars_[index].mapped) return std::nullopt;
  return bars_[index].mapped_at;
}

std::optional<uint64_t> PciFunction::wanted_mapping_locked(unsigned index) const {
  const Bar& bar = bars_[index].config;
  const bool io = bar.kind == BarKind::kIo;
  const uint16_t enable = io ? command::kIo : command::kMemory;
  if (bar.size == 0 || (bar.handler == nullptr && bar.ram.empty()) ||
      (space_.get16(reg::kCommand) & enable) == 0)
    return std::nullopt;
  uint64_t address = space_.get32(bar_offset(index));
  if (bar.kind == BarKind::kMemory64)
    address |= uint64_t{space_.get32(bar_offset(index + 1))} << 32;
  address &= ~(bar.size - 1);
  // An address of 0, or one whose end is the end of the space, is a BAR that nobody has set or that
  // is being sized; to decode it would hide other devices.
  const uint64_t limit = io ? 0xFFFF : bar.kind == BarKind::kMemory32 ? 0xFFFF'FFFF : UINT64_MAX;
  if (address == 0 || address > limit || bar.size - 1 >= limit - address) return std::nullopt;
  return address;
}

void PciFunction::update_mappings_locked() {
  for (unsigned i = 0; i < kBarCount; ++i) {
    BarState& bar = bars_[i];
    memory::IoSpace* space =
        bar.config.kind == BarKind::kIo ? connections_.ports : connections_.mmio;
    if (space == nullptr) continue;
    const auto wanted = wanted_mapping_locked(i);
    if (bar.mapped && wanted == bar.mapped_at) continue;
    if (bar.mapped) unmap_locked(bar);
    bar.mapped = wanted.has_value();
    if (!wanted) continue;
    bar.mapped_at = *wanted;
    if (!bar.config.ram.empty())
      connections_.memory->map(GuestPhysicalAddress{*wanted}, bar.config.ram);
    else
      space->claim(*wanted, bar.config.size, *bar.config.handler,
                   fmt::format("{} BAR {}", name_, i));
  }
}

void PciFunction::unmap_locked(BarState& bar) {
  auto* space = bar.config.kind == BarKind::kIo ? connections_.ports : connections_.mmio;
  if (!bar.config.ram.empty())
    connections_.memory->unmap(GuestPhysicalAddress{bar.mapped_at}, bar.config.ram);
  else
    space->release(bar.mapped_at, *bar.config.handler);
  bar.mapped = false;
}

void PciFunction::set_rom(std::span<std::byte> rom) {
  const std::lock_guard lock(config_mutex_);
  rom_ = rom;
  space_.set_writable(kRom, 4, ~static_cast<uint32_t>(rom.size() - 1) | kRomEnable);
  power_on_ = space_;
}

void PciFunction::update_rom_locked() {
  if (rom_.empty() || connections_.memory == nullptr) return;
  const uint32_t value = space_.get32(kRom);
  const bool on =
      (value & kRomEnable) != 0 && (space_.get16(reg::kCommand) & command::kMemory) != 0;
  uint64_t wanted = on ? value & ~(rom_.size() - 1) : 0;
  if (wanted + rom_.size() > 0xFFFF'FFFF) wanted = 0;  // is being sized
  if (wanted == rom_mapped_at_) return;
  if (rom_mapped_at_ != 0) connections_.memory->unmap({rom_mapped_at_}, rom_);
  rom_mapped_at_ = wanted;
  if (wanted != 0) connections_.memory->map({wanted}, rom_, false);
}

void PciFunction::unmap_all_locked() {
  if (rom_mapped_at_ != 0) connections_.memory->unmap({std::exchange(rom_mapped_at_, 0)}, rom_);
  for (BarState& bar : bars_) {
    if (bar.mapped) unmap_locked(bar);
  }
}

void PciFunction::update_msix() {
  const auto control = register_value(static_cast<uint16_t>(msix_capability_ + kMsixControl), 2);
  msix_->set_state((control & kMsixEnable) != 0, (control & kMsixFunctionMask) != 0, bus_master());
}

void PciFunction::record_intx_locked() {
  auto status = static_cast<unsigned>(space_.get16(reg::kStatus));
  status = intx_level_ ? status | kStatusInterrupt : status & ~unsigned{kStatusInterrupt};
  space_.set16(reg::kStatus, static_cast<uint16_t>(status));
  const bool disabled = (space_.get16(reg::kCommand) & command::kInterruptDisable) != 0;
  intx_.record(1, intx_level_ && !disabled);
}

void PciFunction::record_intx(bool level) {
  const std::lock_guard lock(config_mutex_);
  intx_level_ = level;
  record_intx_locked();
}

void PciFunction::reset() {
  {
    const std::lock_guard lock(config_mutex_);
    unmap_all_locked();
    space_ = power_on_;
    intx_level_ = false;
    record_intx_locked();
  }
  deliver_intx();
  if (msix_ != nullptr) msix_->reset();
}

}  // namespace limen::pci
