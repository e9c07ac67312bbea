#include "usb/xhci/xhci.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/trace.h"

namespace limen::usb {

using namespace xhci;

namespace {

trace::Event trace_write("usb_xhci_oper_write");
trace::Event trace_doorbell("usb_xhci_doorbell_write");

constexpr uint32_t kVersion = 0x0100;
constexpr unsigned kMostPorts = 15, kMostSlots = 64, kMostInterrupters = 16;
/// Blocks that are worked off in one go; no driver has so many at once.
constexpr size_t kBudget = 1 << 16;
constexpr uint32_t kPortBytes = 16, kInterrupterBytes = 32;

}  // namespace

Result<std::unique_ptr<Xhci>> Xhci::create(const XhciProperties& properties,
                                           memory::GuestMemory& memory, EventLoop& loop) {
  for (const auto& [name, value, most] :
       {std::tuple{"p2", properties.usb2_ports, kMostPorts},
        std::tuple{"p3", properties.usb3_ports, kMostPorts},
        std::tuple{"slots", properties.slots, kMostSlots},
        std::tuple{"intrs", properties.interrupters, kMostInterrupters}})
    if (value < 1 || value > most) return fail("{}={}: it must be 1 to {}", name, value, most);
  return std::unique_ptr<Xhci>(new Xhci(properties, memory, loop));
}

Xhci::Xhci(const XhciProperties& properties, memory::GuestMemory& memory, EventLoop& loop)
    : PciFunction(properties.name, {.vendor = 0x1B36,
                                    .device = 0x000D,
                                    .revision = 1,
                                    .class_code = 0x0C0330,
                                    .subsystem_vendor = 0x1AF4,
                                    .subsystem = 0x1100}),
      properties_(properties),
      memory_(memory),
      loop_(loop),
      registers_(*this),
      slots_(properties.slots),
      interrupters_(properties.interrupters, Interrupter(memory)),
      vectors_due_(properties.interrupters) {
  constexpr uint16_t kSerialBusRelease = 0x60, kFrameLength = 0x61;
  set_register(kSerialBusRelease, 1, 0x30);
  set_register(kFrameLength, 1, 0x20);
  set_bar(kRegisterBar,
          {.kind = pci::BarKind::kMemory64, .size = kRegisterBytes, .handler = &registers_});
  add_msix(kMsixBar, properties.interrupters);
  set_interrupt_pin(1);
  for (unsigned i = 1; i <= properties.usb2_ports; ++i) ports_.push_back({.connector = i});
  for (unsigned i = 1; i <= properties.usb3_ports; ++i)
    ports_.push_back({.connector = i, .super = true});
  devices_.resize(std::max(properties.usb2_ports, properties.usb3_ports));
  clear();
}

Xhci::~Xhci() {
  // A device may be at work: it knows the controller no more from here on.
  for (auto& device : devices_)
    if (device != nullptr) device->disconnect();
  devices_.clear();
}

// --- The life of the controller -----------------------------------------------------------------

void Xhci::clear() {
  command_ = 0;
  status_ = sts::kHalted;
  notifications_ = config_ = 0;
  contexts_ = command_pointer_ = 0;
  command_running_ = commands_rung_ = false;
  command_ring_ = {};
  std::ranges::fill(slots_, Slot{});
  for (auto& interrupter : interrupters_) interrupter.reset();
  std::fill(vectors_due_.begin(), vectors_due_.end(), false);
  for (Port& port : ports_) {
    port.status = port.power_management = 0;
    show_device(port);
  }
  for (auto& device : devices_)
    if (device != nullptr) device->reset();
  update_line();
}

void Xhci::reset() {
  {
    const std::lock_guard lock(mutex_);
    clear();
  }
  deliver_intx();
  PciFunction::reset();
}

void Xhci::fail_controller() {
  status_ |= sts::kControllerError | sts::kHalted;
  command_ &= ~cmd::kRun;
}

void Xhci::write_command(uint32_t value) {
  if ((value & cmd::kReset) != 0) return clear();
  const uint32_t before = std::exchange(command_, value & cmd::kWritable);
  if ((value & cmd::kRun) != 0 && (status_ & sts::kControllerError) == 0) {
    status_ &= ~sts::kHalted;
    // What happened before is told now (§4.19.2).
    if ((before & cmd::kRun) == 0)
      for (const Port& port : ports_)
        if ((port.status & portsc::kChanges) != 0) tell_port(port);
  } else {
    status_ |= sts::kHalted;
    command_running_ = false;
  }
  // State that is saved is lost by a reset: the driver then begins anew.
  if ((value & cmd::kRestore) != 0) status_ |= sts::kRestoreError;
  note_all_due();
}

/// CRCR (§5.4.5): the pointer can be changed while the ring stands still.
void Xhci::write_command_ring(uint32_t value) {
  if (!command_running_) {
    command_pointer_ = (command_pointer_ & ~uint64_t{0xFFFF'FFFF}) | (value & ~0x3Fu);
    command_ring_ = {.dequeue = command_pointer_, .cycle = (value & crcr::kCycle) != 0};
  } else if ((value & (crcr::kStop | crcr::kAbort)) != 0) {
    command_running_ = false;
    post(0, {.parameter = command_ring_.dequeue,
             .status = static_cast<uint32_t>(Code::kCommandRingStopped) << 24,
             .control = kCommandCompletion << 10});
  }
}

// --- Registers ----------------------------------------------------------------------------------

uint32_t Xhci::read_capability(uint32_t offset) const {
  const auto protocol = [&](uint32_t at, uint32_t major, size_t first, size_t count,
                            bool last) -> uint32_t {
    constexpr uint32_t kSupportedProtocol = 2, kNameUsb = 0x2042'5355;
    switch (at) {
      case 0x0:
        return kSupportedProtocol | (last ? 0u : 4u << 8) | major << 24;
      case 0x4:
        return kNameUsb;
      case 0x8:
        return static_cast<uint32_t>(first | count << 8);
      default:
        return 0;
    }
  };
  switch (offset) {
    case kCapLengthVersion:
      return kCapabilityBytes | kVersion << 16;
    case kHcsParams1:
      return static_cast<uint32_t>(slots_.size() | interrupters_.size() << 8 | ports_.size() << 24);
    case kHcsParams2:
      return 0xF;  // one event ring segment, no scratchpad
    case kHccParams1:
      return 1 | kExtended / 4 << 16;  // 64-bit addresses
    case kDoorbellOffset:
      return kDoorbells;
    case kRuntimeOffset:
      return kRuntime;
    default:
      break;
  }
  if (offset >= kExtended && offset < kExtended + 0x10)
    return protocol(offset - kExtended, 2, 1, properties_.usb2_ports, false);
  if (offset >= kExtended + 0x10 && offset < kExtended + 0x20)
    return protocol(offset - kExtended - 0x10, 3, properties_.usb2_ports + 1,
                    properties_.usb3_ports, true);
  return 0;
}

uint32_t Xhci::read_operational(uint32_t offset) const {
  switch (offset) {
    case kUsbCmd:
      return command_;
    case kUsbSts:
      return status_;
    case kPageSize:
      return 1;  // 4 KiB
    case kDnCtrl:
      return notifications_;
    case kCrcr:
      return command_running_ ? crcr::kRunning : 0;
    case kDcbaap:
      return static_cast<uint32_t>(contexts_);
    case kDcbaapHigh:
      return static_cast<uint32_t>(contexts_ >> 32);
    case kConfig:
      return config_;
    default:
      return 0;
  }
}

void Xhci::write_operational(uint32_t offset, uint32_t value) {
  switch (offset) {
    case kUsbCmd:
      return write_command(value);
    case kUsbSts:
      status_ &= ~(value & sts::kClearable);
      return update_line();
    case kDnCtrl:
      notifications_ = value & 0xFFFF;
      return;
    case kCrcr:
      return write_command_ring(value);
    case kCrcrHigh:
      if (command_running_) return;
      command_pointer_ = (command_pointer_ & 0xFFFF'FFFF) | uint64_t{value} << 32;
      command_ring_.dequeue = command_pointer_;
      return;
    case kDcbaap:
      contexts_ = (contexts_ & ~uint64_t{0xFFFF'FFFF}) | (value & ~0x3Fu);
      return;
    case kDcbaapHigh:
      contexts_ = (contexts_ & 0xFFFF'FFFF) | uint64_t{value} << 32;
      return;
    case kConfig:
      config_ = value & 0xFF;
      return;
    default:
      return;
  }
}

uint32_t Xhci::read(uint32_t offset) {
  const std::lock_guard lock(mutex_);
  if (offset < kCapabilityBytes) return read_capability(offset);
  if (offset >= kPorts && offset < kPorts + kPortBytes * ports_.size()) {
    const Port& port = ports_[(offset - kPorts) / kPortBytes];
    switch (offset % kPortBytes) {
      case kPortSc:
        return port.status;
      case kPortPmsc:
        return port.power_management;
      default:
        return 0;
    }
  }
  if (offset < kRuntime) return read_operational(offset - kOperational);
  if (offset == kRuntime + kMfIndex) {
    // In microframes of 125 us, 14 bits.
    const auto now = loop_.now().time_since_epoch();
    return static_cast<uint32_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(now).count() / 125 & 0x3FFF);
  }
  const uint32_t at = offset - kRuntime - kInterrupters;
  if (offset >= kRuntime + kInterrupters && at / kInterrupterBytes < interrupters_.size())
    return interrupters_[at / kInterrupterBytes].read(at % kInterrupterBytes);
  return 0;  // doorbells, too
}

void Xhci::write(uint32_t offset, uint32_t value) {
  if (offset < kCapabilityBytes) return;
  if (offset >= kPorts && offset < kPorts + kPortBytes * ports_.size()) {
    Port& port = ports_[(offset - kPorts) / kPortBytes];
    if (offset % kPortBytes == kPortSc)
      write_port(port, value);
    else if (offset % kPortBytes == kPortPmsc)
      port.power_management = value;
    return;
  }
  if (offset < kRuntime) {
    trace_write("offset {:#x} value {:#x}", offset - kOperational, value);
    return write_operational(offset - kOperational, value);
  }
  if (offset >= kDoorbells) {
    trace_doorbell("slot {} value {:#x}", (offset - kDoorbells) / 4, value);
    return ring_doorbell((offset - kDoorbells) / 4, value & 0xFF);
  }
  const uint32_t at = offset - kRuntime - kInterrupters;
  const uint32_t index = at / kInterrupterBytes;
  if (offset < kRuntime + kInterrupters || index >= interrupters_.size()) return;
  if (interrupters_[index].write(at % kInterrupterBytes, value)) note_due(index);
}

uint64_t Xhci::Registers::io_read(uint64_t offset, unsigned size) {
  const auto at = static_cast<uint32_t>(offset);
  uint64_t value = controller.read(at & ~3u);
  if (size == 8) value |= uint64_t{controller.read(at + 4)} << 32;
  return value >> 8 * (at & 3);
}

void Xhci::Registers::io_write(uint64_t offset, unsigned size, uint64_t value) {
  const auto at = static_cast<uint32_t>(offset);
  if (size < 4 || (at & 3) != 0) return;
  {
    const std::lock_guard lock(controller.mutex_);
    controller.write(at, static_cast<uint32_t>(value));
    if (size == 8) controller.write(at + 4, static_cast<uint32_t>(value >> 32));
  }
  controller.work();
}

// --- Events and interrupts ----------------------------------------------------------------------

void Xhci::post(unsigned interrupter, const Trb& event, bool interrupt) {
  if (interrupter >= interrupters_.size()) interrupter = 0;
  if (!interrupters_[interrupter].post(event, interrupt)) return;
  status_ |= sts::kEvent;
  note_due(interrupter);
}

void Xhci::note_due(unsigned index) {
  Interrupter& interrupter = interrupters_[index];
  if (interrupter.pending() && interrupter.enabled() && (command_ & cmd::kInterrupts) != 0 &&
      msix()->enabled()) {
    interrupter.acknowledged();
    vectors_due_[index] = true;
  }
  update_line();
}

void Xhci::note_all_due() {
  for (unsigned i = 0; i < interrupters_.size(); ++i) note_due(i);
}

/// INTx, which is the first interrupter's.
void Xhci::update_line() {
  record_intx(interrupters_[0].pending() && interrupters_[0].enabled() &&
              (command_ & cmd::kInterrupts) != 0 && !msix()->enabled());
}

void Xhci::config_written(uint16_t, unsigned) {
  {
    const std::lock_guard lock(mutex_);
    update_line();
  }
  deliver_intx();
}

void Xhci::deliver() {
  std::vector<bool> due(interrupters_.size());
  {
    const std::lock_guard lock(mutex_);
    due.swap(vectors_due_);
  }
  for (unsigned vector = 0; vector < due.size(); ++vector)
    if (due[vector]) msix()->notify(vector);
  deliver_intx();
}

// --- Work ---------------------------------------------------------------------------------------

bool Xhci::blocked() const {
  return !running() || std::ranges::any_of(interrupters_, &Interrupter::full);
}

bool Xhci::spend(size_t blocks) {
  if (blocks > budget_) {
    fail_controller();
    return false;
  }
  budget_ -= blocks;
  return true;
}

void Xhci::endpoint_ready(unsigned connector, uint8_t address) {
  {
    const std::lock_guard lock(wish_mutex_);
    wishes_.insert({connector, address});
  }
  work();
}

/// A device that is ready at once, on this very thread and in the middle of a transfer, does not
/// get here again: the loop goes on instead.
void Xhci::work() {
  {
    const std::lock_guard lock(wish_mutex_);
    work_due_ = true;
    if (std::exchange(working_, true)) return;
  }
  while (true) {
    std::set<Wish> wishes;
    {
      const std::lock_guard lock(wish_mutex_);
      if (!std::exchange(work_due_, false)) {
        working_ = false;
        return;
      }
      wishes.swap(wishes_);
    }
    {
      const std::lock_guard lock(mutex_);
      budget_ = kBudget;
      for (const auto& wish : wishes)
        for (Port& port : ports_)
          if (port.device != nullptr && port.connector == wish.connector) {
            wake(port);
            if (Slot* slot = slot_of(port); slot != nullptr)
              slot->endpoints[(wish.endpoint & 0xFu) * 2 + ((wish.endpoint & kIn) != 0 ? 1 : 0)]
                  .rung = true;
          }
      run_commands();
      for (size_t slot = 0; slot < slots_.size(); ++slot)
        if (slots_[slot].enabled)
          for (unsigned index = kControlEndpoint; index < kContexts; ++index)
            if (slots_[slot].endpoints[index].rung)
              run_endpoint(static_cast<uint8_t>(slot + 1), index);
    }
    deliver();
  }
}

}  // namespace limen::usb
