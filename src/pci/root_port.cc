#include "pci/root_port.h"

#include <utility>

namespace limen::pci {
namespace {

// The header of a bridge (Bridge Architecture 1.2 §3.2.5).
constexpr uint16_t kPrimaryBus = 0x18, kSecondaryBus = 0x19, kSubordinateBus = 0x1A, kIoBase = 0x1C,
                   kSecondaryStatus = 0x1E, kMemoryBase = 0x20, kMemoryLimit = 0x22,
                   kPrefetchableBase = 0x24, kPrefetchableLimit = 0x26, kPrefetchableUpper = 0x28,
                   kIoUpper = 0x30, kBridgeControl = 0x3E;
constexpr uint8_t kBridgeHeader = 1;

// The PCI Express capability (PCI Express Base 5.0 §7.5.3).
constexpr uint8_t kExpressCapability = 0x10, kExpressSize = 0x3C;
constexpr uint16_t kExpressFlags = 0x02, kDeviceCapabilities = 0x04, kDeviceControl = 0x08,
                   kLinkCapabilities = 0x0C, kLinkControl = 0x10, kLinkStatus = 0x12,
                   kSlotCapabilities = 0x14, kSlotControl = 0x18, kSlotStatus = 0x1A,
                   kRootControl = 0x1C, kLinkCapabilities2 = 0x2C, kLinkControl2 = 0x30;
constexpr uint16_t kVersion2 = 2, kRootPortType = 4 << 4, kSlotImplemented = 1 << 8;
constexpr uint32_t kRoleBasedErrors = 1u << 15;
constexpr uint32_t kLinkSpeed = 1, kLinkWidth1 = 1u << 4, kLinkActiveReporting = 1u << 20;
constexpr uint16_t kLinkActive = 1 << 13;
// Slot capabilities: what there is. Without "command completed", commands take no time.
constexpr uint32_t kAttentionButton = 1u << 0, kPowerController = 1u << 1,
                   kAttentionIndicator = 1u << 3, kPowerIndicator = 1u << 4, kSurprise = 1u << 5,
                   kHotPlug = 1u << 6, kNoCommandCompleted = 1u << 18;
// Slot status: events, which writing a 1 takes away, and states.
constexpr uint16_t kButtonPressed = 1 << 0, kPresenceChanged = 1 << 3, kPresence = 1 << 6,
                   kLinkChanged = 1 << 8;
constexpr uint16_t kEvents = kButtonPressed | kPresenceChanged | kLinkChanged;
// Slot control.
constexpr uint16_t kHotPlugInterrupt = 1 << 5, kPowerIndicatorMask = 3 << 8,
                   kPowerIndicatorOn = 1 << 8, kPowerIndicatorOff = 3 << 8, kPowerOff = 1 << 10,
                   kLinkChangeEnable = 1 << 12, kSlotControlWritable = 0x1FFF;

constexpr PciFunction::Identity kIdentity = {.vendor = 0x1B36,
                                             .device = 0x000C,
                                             .revision = 0,
                                             .class_code = 0x060400,
                                             .subsystem_vendor = 0,
                                             .subsystem = 0};

/// The events that are enabled, as they stand in slot status.
uint16_t enabled_events(uint16_t control) {
  return static_cast<uint16_t>((control & (kButtonPressed | kPresenceChanged)) |
                               ((control & kLinkChangeEnable) != 0 ? kLinkChanged : 0));
}

/// A bridge's windows are multiples of 1 MiB; two are what an operating system keeps for a slot.
constexpr uint64_t kWindow = uint64_t{2} << 20;
constexpr uint64_t kPortWindow = 4096;

}  // namespace

RootPort::RootPort(const Config& config, const BusConnections& connections)
    : PciFunction(config.name, kIdentity), secondary_(config.name, connections, 1) {
  set_register(reg::kHeaderType, 1, kBridgeHeader);
  add_msix(0, 1);
  set_register_writable(kPrimaryBus, 4, 0x00FF'FFFF);
  // Windows that are empty: the base above the limit. I/O and prefetchable memory are wide.
  set_register(kIoBase, 2, 0x01F1);
  set_register_writable(kIoBase, 2, 0xF0F0);
  set_register_writable(kSecondaryStatus, 2, 0);
  set_register(kMemoryBase, 2, 0xFFF0);
  set_register_writable(kMemoryBase, 4, 0xFFF0'FFF0);
  set_register(kPrefetchableBase, 2, 0xFFF1);
  set_register(kPrefetchableLimit, 2, 0x0001);
  set_register_writable(kPrefetchableBase, 4, 0xFFF0'FFF0);
  set_register_writable(kPrefetchableUpper, 4, ~0u);
  set_register_writable(kPrefetchableUpper + 4, 4, ~0u);
  set_register_writable(kIoUpper, 4, ~0u);
  set_register_writable(kBridgeControl, 2, 0x0FFF);

  express_ = add_capability(kExpressCapability, kExpressSize);
  set_register(at(kExpressFlags), 2, kVersion2 | kRootPortType | kSlotImplemented);
  set_register(at(kDeviceCapabilities), 4, kRoleBasedErrors);
  set_register_writable(at(kDeviceControl), 2, 0x000F);
  set_register(at(kLinkCapabilities), 4,
               kLinkSpeed | kLinkWidth1 | kLinkActiveReporting | uint32_t{config.port} << 24);
  set_register_writable(at(kLinkControl), 2, 0x01F3);
  set_register(at(kLinkStatus), 2, kLinkSpeed | kLinkWidth1);
  set_register(at(kSlotCapabilities), 4,
               kAttentionButton | kPowerController | kAttentionIndicator | kPowerIndicator |
                   kSurprise | kHotPlug | kNoCommandCompleted |
                   uint32_t{config.slot & 0x1FFFu} << 19);
  set_register_writable(at(kSlotControl), 2, kSlotControlWritable);
  set_register_writable(at(kSlotStatus), 2, kEvents);
  set_register_writable(at(kRootControl), 2, 0x001F);
  set_register(at(kLinkCapabilities2), 4, 1u << 1);
  set_register(at(kLinkControl2), 2, kLinkSpeed);
  secondary_.connect_interrupts(swizzle_);
}

void RootPort::Swizzle::set_line(unsigned line, bool level) {
  if (port_.upstream_ == nullptr) return;
  const unsigned pin = (line / 4 + line % 4) % 4;
  port_.upstream_->set_line(port_.address().device * 4u + pin, level);
}

void RootPort::connect_downstream_interrupts(irq::InterruptSink& sink) { upstream_ = &sink; }

PciBus* RootPort::bus_behind(uint8_t number) {
  const auto secondary = static_cast<uint8_t>(register_value(kSecondaryBus, 1));
  return secondary != 0 && number == secondary ? &secondary_ : nullptr;
}

bool RootPort::occupied() const { return !secondary_.functions().empty(); }

void RootPort::assign_buses(uint8_t primary, uint8_t secondary, uint8_t subordinate) {
  set_register(kPrimaryBus, 1, primary);
  set_register(kSecondaryBus, 1, secondary);
  set_register(kSubordinateBus, 1, subordinate);
}

bool RootPort::wants_ports() const {
  for (const PciFunction* function : secondary_.functions())
    for (unsigned i = 0; i < kBarCount; ++i)
      if (function->bar(i).size != 0 && function->bar(i).kind == BarKind::kIo) return true;
  return false;
}

Result<> RootPort::assign_windows(ResourceWindow window, ResourceWindow ports) {
  LIMEN_TRY(assign_resources(secondary_, window, ports));
  if (ports.size != 0) {
    config_write(kIoBase, 1, static_cast<uint32_t>(ports.start >> 8) & 0xF0);
    config_write(kIoBase + 1, 1, static_cast<uint32_t>((ports.start + ports.size - 1) >> 8) & 0xF0);
    config_write(kIoUpper, 4, 0);
    config_write(reg::kCommand, 2, config_read(reg::kCommand, 2) | command::kIo);
  }
  config_write(kMemoryBase, 2, static_cast<uint32_t>(window.start >> 16) & 0xFFF0);
  config_write(kMemoryLimit, 2,
               static_cast<uint32_t>((window.start + window.size - 1) >> 16) & 0xFFF0);
  config_write(reg::kCommand, 2,
               config_read(reg::kCommand, 2) | command::kMemory | command::kBusMaster);
  return {};
}

void RootPort::reset() {
  PciFunction::reset();
  const std::lock_guard lock(slot_mutex_);
  status_ = 0;
  interrupting_ = false;
  // As firmware leaves it: power where there is something.
  control_ = occupied() ? kPowerIndicatorOn : kPowerIndicatorOff | kPowerOff;
  set_register(at(kSlotControl), 2, control_);
  static_cast<void>(update_slot_locked());
}

bool RootPort::update_slot_locked() {
  const bool present = occupied();
  set_register(at(kSlotStatus), 2, static_cast<uint32_t>(status_ | (present ? kPresence : 0)));
  const bool link = present && (control_ & kPowerOff) == 0;
  set_register(at(kLinkStatus), 2, kLinkSpeed | kLinkWidth1 | (link ? kLinkActive : 0u));
  const bool due = (control_ & kHotPlugInterrupt) != 0 && (status_ & enabled_events(control_)) != 0;
  return !std::exchange(interrupting_, due) && due;
}

void RootPort::note_events(uint16_t events) {
  bool interrupt = false;
  {
    const std::lock_guard lock(slot_mutex_);
    status_ = static_cast<uint16_t>(status_ | events);
    // Each event is a message of its own (§6.7.3.4), even where an older one waits.
    interrupting_ = false;
    interrupt = update_slot_locked();
  }
  if (interrupt) msix()->notify(0);
}

void RootPort::plugged() { note_events(kPresenceChanged | kLinkChanged); }

void RootPort::unplugged() { note_events(kPresenceChanged | kLinkChanged); }

bool RootPort::request_unplug() {
  if (!occupied()) return false;
  note_events(kButtonPressed);
  return true;
}

void RootPort::config_written(uint16_t offset, unsigned size) {
  const auto touches = [&](uint16_t field) {
    return offset < at(field) + 2u && offset + size > at(field);
  };
  if (!touches(kSlotControl) && !touches(kSlotStatus)) return;
  bool interrupt = false;
  bool powered_off = false;
  {
    const std::lock_guard lock(slot_mutex_);
    if (touches(kSlotStatus)) {
      // What the guest wrote stands in the register now: ones take events away.
      unsigned written = 0;
      for (uint16_t byte = 0; byte < 2; ++byte) {
        const auto place = static_cast<uint16_t>(at(kSlotStatus) + byte);
        if (place >= offset && place < offset + size)
          written |= register_value(place, 1) << (8 * byte);
      }
      status_ = static_cast<uint16_t>(status_ & ~(written & kEvents));
    }
    const auto control = static_cast<uint16_t>(register_value(at(kSlotControl), 2));
    const uint16_t before = std::exchange(control_, control);
    const auto is_off = [](uint16_t value) {
      return (value & kPowerOff) != 0 && (value & kPowerIndicatorMask) == kPowerIndicatorOff;
    };
    powered_off = is_off(control) && !is_off(before) && occupied();
    interrupt = update_slot_locked();
  }
  if (interrupt) msix()->notify(0);
  if (powered_off && powered_off_) powered_off_();
}

Result<> assign_root_ports(PciBus& bus, ResourceWindow& mmio, ResourceWindow& io) {
  uint8_t number = 0;
  for (PciFunction* function : bus.functions()) {
    auto* port = dynamic_cast<RootPort*>(function);
    if (port == nullptr) continue;
    if (number == UINT8_MAX || mmio.size < kWindow)
      return fail("no room for what is behind root port {}", port->name());
    ++number;
    port->assign_buses(0, number, number);
    mmio.size -= kWindow;
    ResourceWindow ports;
    if (port->wants_ports()) {
      if (io.size < kPortWindow)
        return fail("no ports are left for what is behind root port {}", port->name());
      io.size -= kPortWindow;
      ports = {io.start + io.size, kPortWindow};
    }
    LIMEN_TRY(port->assign_windows({mmio.start + mmio.size, kWindow}, ports));
  }
  return {};
}

}  // namespace limen::pci
