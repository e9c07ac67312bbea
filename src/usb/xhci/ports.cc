// The root hub: ports, what is plugged into them, link states (xHCI 1.2 §4.15, §4.19, §5.4.8).
#include <algorithm>
#include <utility>

#include "usb/xhci/xhci.h"

namespace limen::usb {

using namespace xhci;

unsigned Xhci::connectors() const { return static_cast<unsigned>(devices_.size()); }

UsbDevice* Xhci::device(unsigned connector) const {
  const std::lock_guard lock(mutex_);
  return connector >= 1 && connector <= devices_.size() ? devices_[connector - 1].get() : nullptr;
}

unsigned Xhci::address(unsigned connector) const {
  const std::lock_guard lock(mutex_);
  for (const Slot& slot : slots_)
    if (slot.enabled && !slot.gone && slot.address != 0 && ports_[slot.port].connector == connector)
      return slot.address;
  return 0;
}

/// The fastest port of the connector that the device can run at.
Xhci::Port* Xhci::free_port(unsigned connector, const UsbDevice& device) {
  if (devices_[connector - 1] != nullptr) return nullptr;
  Port* best = nullptr;
  for (Port& port : ports_)
    if (port.connector == connector &&
        (port.super ? device.supports(Speed::kSuper)
                    : device.supports(Speed::kHigh) || device.supports(Speed::kFull)))
      best = &port;
  return best;
}

Result<unsigned> Xhci::plug(std::unique_ptr<UsbDevice> device, unsigned connector) {
  if (connector > devices_.size())
    return fail("usb port {} not found: the controller has ports 1 to {}", connector,
                devices_.size());
  {
    const std::lock_guard lock(mutex_);
    if (connector != 0 && devices_[connector - 1] != nullptr)
      return fail("usb port {} is in use by {}", connector,
                  devices_[connector - 1]->description().name);
    Port* port = nullptr;
    for (unsigned each = 1; each <= devices_.size() && port == nullptr; ++each)
      if (connector == 0 || connector == each) port = free_port(each, *device);
    if (port == nullptr && connector != 0)
      return fail("usb port {} is not one of USB 2, which {} needs", connector,
                  device->description().name);
    if (port == nullptr) return fail("no free usb port for {}", device->description().name);
    connector = port->connector;
    device->connect(*this, connector,
                    port->super                      ? Speed::kSuper
                    : device->supports(Speed::kHigh) ? Speed::kHigh
                                                     : Speed::kFull);
    port->device = device.get();
    devices_[connector - 1] = std::move(device);
    show_device(*port);
    change_port(*port, portsc::kConnectChange);
  }
  work();
  return connector;
}

std::unique_ptr<UsbDevice> Xhci::unplug(unsigned connector) {
  std::unique_ptr<UsbDevice> device;
  {
    const std::lock_guard lock(mutex_);
    if (connector < 1 || connector > devices_.size()) return nullptr;
    device = std::move(devices_[connector - 1]);
    if (device == nullptr) return nullptr;
    for (Port& port : ports_) {
      if (port.device != device.get()) continue;
      if (Slot* slot = slot_of(port); slot != nullptr) slot->gone = true;
      port.device = nullptr;
      show_device(port);
      change_port(port, portsc::kConnectChange);
    }
  }
  device->disconnect();
  work();
  return device;
}

/// Connection, speed and link as they are once a device has come or gone, before the driver acts: a
/// SuperSpeed link trains by itself.
void Xhci::show_device(Port& port) {
  constexpr uint32_t kKept = portsc::kChanges | portsc::kIndicators | portsc::kWakes;
  uint32_t status = (port.status & kKept) | portsc::kPower;
  Link link = Link::kRxDetect;
  if (port.device != nullptr) {
    status |= portsc::kConnected | portsc::kConnectChange |
              static_cast<uint32_t>(port.device->speed()) << portsc::kSpeedShift;
    link = port.super ? Link::kU0 : Link::kPolling;
    if (port.super) status |= portsc::kEnabled;
  }
  port.status = status | static_cast<uint32_t>(link) << portsc::kLinkShift;
}

void Xhci::tell_port(const Port& port) {
  const auto number = static_cast<uint64_t>(&port - ports_.data()) + 1;
  post(0, {.parameter = number << 24,
           .status = static_cast<uint32_t>(Code::kSuccess) << 24,
           .control = kPortStatusChange << 10});
}

void Xhci::change_port(Port& port, uint32_t changes) {
  const bool told = (port.status & portsc::kChanges & ~changes) != 0;
  port.status |= changes;
  status_ |= sts::kPortChange;
  // One event until the driver has cleared what changed (§4.19.2).
  if (running() && !told) tell_port(port);
}

void Xhci::set_link(Port& port, Link link) {
  port.status = (port.status & ~portsc::kLinkMask) | static_cast<uint32_t>(link)
                                                         << portsc::kLinkShift;
}

void Xhci::reset_port(Port& port, bool warm) {
  if (port.device == nullptr) return;
  port.device->reset();
  port.status |= portsc::kEnabled;
  set_link(port, Link::kU0);
  change_port(port, portsc::kResetChange | (warm && port.super ? portsc::kWarmResetChange : 0));
}

void Xhci::write_link(Port& port, Link link) {
  const auto now = static_cast<Link>((port.status & portsc::kLinkMask) >> portsc::kLinkShift);
  if ((port.status & portsc::kEnabled) == 0) {
    // A port that is off may be told to look again.
    if (link == Link::kRxDetect && port.super && port.device != nullptr) show_device(port);
    return;
  }
  switch (link) {
    case Link::kU0:
      set_link(port, Link::kU0);
      if (now == Link::kU3 || now == Link::kResume) change_port(port, portsc::kLinkChange);
      return;
    case Link::kU3:
      return set_link(port, Link::kU3);
    case Link::kResume:
      if (now == Link::kU3 && !port.super) set_link(port, Link::kResume);
      return;
    default:
      return;
  }
}

/// A device's wish to go on wakes a port that sleeps (§4.15.2).
void Xhci::wake(Port& port) {
  const auto now = static_cast<Link>((port.status & portsc::kLinkMask) >> portsc::kLinkShift);
  if (now != Link::kU3 || !port.device->remote_wakeup()) return;
  set_link(port, Link::kResume);
  change_port(port, portsc::kLinkChange);
}

void Xhci::write_port(Port& port, uint32_t value) {
  constexpr uint32_t kStored = portsc::kIndicators | portsc::kWakes;
  port.status &= ~(value & portsc::kChanges);
  port.status = (port.status & ~kStored) | (value & kStored);
  if ((value & portsc::kReset) != 0) return reset_port(port, false);
  if ((value & portsc::kWarmReset) != 0 && port.super) return reset_port(port, true);
  // Written as 1 it disables the port; a read-modify-write of a driver leaves it 0.
  if ((value & portsc::kEnabled) != 0 && (port.status & portsc::kEnabled) != 0) {
    port.status &= ~portsc::kEnabled;
    set_link(port, port.super ? Link::kRxDetect : Link::kPolling);
  }
  if ((value & portsc::kLinkWrite) != 0)
    write_link(port, static_cast<Link>((value & portsc::kLinkMask) >> portsc::kLinkShift));
}

Xhci::Slot* Xhci::slot_of(const Port& port) {
  const auto index = static_cast<unsigned>(&port - ports_.data());
  const auto found = std::ranges::find_if(slots_, [&](const Slot& slot) {
    return slot.enabled && !slot.gone && slot.state != SlotState::kDisabled && slot.port == index;
  });
  return found == slots_.end() ? nullptr : &*found;
}

}  // namespace limen::usb
