#include "kvm/interrupt_chips.h"

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "kvm/ioctl.h"
#include "kvm/listed.h"

namespace limen::kvm {
namespace {

constexpr unsigned kIsaLines = 16;
constexpr unsigned kCascade = 2;

/// KVM_SET_GSI_ROUTING's list.
class Routes {
 public:
  void add_pin(unsigned line, unsigned chip, unsigned pin) {
    kvm_irq_routing_entry entry{};
    entry.gsi = line;
    entry.type = KVM_IRQ_ROUTING_IRQCHIP;
    entry.u.irqchip.irqchip = chip;
    entry.u.irqchip.pin = pin;
    entries_.push_back(entry);
  }
  void add_message(unsigned line, uint64_t address, uint32_t data) {
    kvm_irq_routing_entry entry{};
    entry.gsi = line;
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = static_cast<uint32_t>(address);
    entry.u.msi.address_hi = static_cast<uint32_t>(address >> 32);
    entry.u.msi.data = data;
    entries_.push_back(entry);
  }
  Result<> set(int vm) const {
    Listed<kvm_irq_routing, kvm_irq_routing_entry> list(entries_.size());
    list->nr = static_cast<uint32_t>(entries_.size());
    std::ranges::copy(entries_, list->entries);
    LIMEN_TRY(try_call(vm, KVM_SET_GSI_ROUTING, "KVM_SET_GSI_ROUTING", list.get()));
    return {};
  }

 private:
  std::vector<kvm_irq_routing_entry> entries_;
};

}  // namespace

/// KVM_IRQFD.
class InterruptChips::EventInterrupt final : public vcpu::EventInterrupt {
 public:
  EventInterrupt(InterruptChips& chips, int event, unsigned number)
      : chips_(chips), event_(event), number_(number) {}
  ~EventInterrupt() override { chips_.disconnect(event_, number_); }
  EventInterrupt(const EventInterrupt&) = delete;
  EventInterrupt& operator=(const EventInterrupt&) = delete;

 private:
  InterruptChips& chips_;
  const int event_;
  const unsigned number_;
};

InterruptChips::InterruptChips(const Device& device, int vm, bool complete)
    : device_(device),
      vm_(vm),
      complete_(complete),
      has_event_interrupts_(device.extension(KVM_CAP_IRQFD) > 0),
      has_line_events_(device.extension(KVM_CAP_IRQFD_RESAMPLE) > 0),
      most_routes_(static_cast<unsigned>(device.extension(KVM_CAP_IRQ_ROUTING))) {}

Result<std::unique_ptr<InterruptChips>> InterruptChips::create(const Device& device, int vm,
                                                               IrqChip which) {
  const bool complete = which == IrqChip::kOn;
  std::unique_ptr<InterruptChips> chips(new InterruptChips(device, vm, complete));
  LIMEN_TRY(complete ? chips->create_all() : chips->create_local());
  return chips;
}

Result<> InterruptChips::check(const Device& device, IrqChip which) {
  if (which == IrqChip::kOn &&
      (device.extension(KVM_CAP_IRQCHIP) == 0 || device.extension(KVM_CAP_IRQ_ROUTING) == 0))
    return fail(
        "kernel-irqchip=on: this kernel has no interrupt controllers; use "
        "kernel-irqchip=off");
  if (which == IrqChip::kSplit && device.extension(KVM_CAP_SPLIT_IRQCHIP) == 0)
    return fail(
        "kernel-irqchip=split: this kernel has interrupt controllers as a whole or not at "
        "all (KVM_CAP_SPLIT_IRQCHIP, since Linux 4.5); use on or off");
  return {};
}

Result<> InterruptChips::create_all() {
  LIMEN_TRY(try_call(vm_, KVM_CREATE_IRQCHIP, "KVM_CREATE_IRQCHIP", 0));
  LIMEN_TRY(set_routes());
  for (uint32_t i = 0; i < chips_.size(); ++i) {
    chips_[i].chip_id = i;
    LIMEN_TRY(try_call(vm_, KVM_GET_IRQCHIP, "KVM_GET_IRQCHIP", &chips_[i]));
  }
  return {};
}

Result<> InterruptChips::create_local() {
  kvm_enable_cap split{};
  split.cap = KVM_CAP_SPLIT_IRQCHIP;
  split.args[0] = kLines;
  LIMEN_TRY(try_call(vm_, KVM_ENABLE_CAP, "KVM_CAP_SPLIT_IRQCHIP", &split));
  return {};
}

Result<> InterruptChips::create_timer() {
  kvm_pit_config config{};
  config.flags = KVM_PIT_SPEAKER_DUMMY;
  LIMEN_TRY(try_call(vm_, KVM_CREATE_PIT2, "KVM_CREATE_PIT2", &config));
  has_timer_ = true;
  LIMEN_TRY(try_call(vm_, KVM_GET_PIT2, "KVM_GET_PIT2", &timer_));
  return {};
}

void InterruptChips::set_timer_interrupt_enabled(bool enabled) {
  if (!has_timer_) return;
  kvm_pit_state2 state{};
  if (call(vm_, KVM_GET_PIT2, &state) < 0) return;
  state.flags = enabled ? state.flags & ~uint32_t{KVM_PIT_FLAGS_HPET_LEGACY}
                        : state.flags | KVM_PIT_FLAGS_HPET_LEGACY;
  call(vm_, KVM_SET_PIT2, &state);
}

Result<> InterruptChips::add_processor(int vcpu) {
  LocalApic apic{.vcpu = vcpu};
  LIMEN_TRY(try_call(vcpu, KVM_GET_LAPIC, "KVM_GET_LAPIC", &apic.state));
  local_apics_.push_back(apic);
  return {};
}

bool InterruptChips::send_msi(uint64_t address, uint32_t data) {
  kvm_msi msi{};
  msi.address_lo = static_cast<uint32_t>(address);
  msi.address_hi = static_cast<uint32_t>(address >> 32);
  msi.data = data;
  return call(vm_, KVM_SIGNAL_MSI, &msi) > 0;
}

void InterruptChips::set_line(unsigned line, bool level) {
  kvm_irq_level irq{};
  irq.irq = line;
  irq.level = level ? 1 : 0;
  call(vm_, KVM_IRQ_LINE, &irq);
}

void InterruptChips::set_io_apic_route(unsigned line, uint64_t address, uint32_t data) {
  const std::lock_guard lock(mutex_);
  if (line >= kLines) return;
  const Message message{address, data};
  const auto [known, is_new] = messages_.try_emplace(line, message);
  if (!is_new && known->second == message) return;  // masked, or written again
  known->second = message;
  if (const auto set = set_routes(); !set) log::error("kvm: {}", set.error().message);
}

Result<> InterruptChips::set_routes() {
  Routes routes;
  for (unsigned line = 0; complete_ && line < kLines; ++line) {
    if (line == kCascade) continue;
    if (line < kIsaLines)
      routes.add_pin(line, line < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, line % 8);
    // Interrupt 0 stands at the I/O APIC's input 2, as the MADT says.
    routes.add_pin(line, KVM_IRQCHIP_IOAPIC, line == 0 ? kCascade : line);
  }
  for (const auto& [number, message] : messages_)
    routes.add_message(number, message.address, message.data);
  return routes.set(vm_);
}

std::unique_ptr<vcpu::EventInterrupt> InterruptChips::connect_msi(int event, uint64_t address,
                                                                  uint32_t data) {
  unsigned number = kLines;
  {
    const std::lock_guard lock(mutex_);
    while (messages_.contains(number)) ++number;
    if (number >= most_routes_) return nullptr;
    messages_[number] = {address, data};
    if (!set_routes()) {
      messages_.erase(number);
      return nullptr;
    }
  }
  return connect(event, number, -1);
}

std::unique_ptr<vcpu::EventInterrupt> InterruptChips::connect_line(int event, unsigned line,
                                                                   int ended) {
  // With the machine's own I/O APIC, the kernel does not know when an interrupt ends.
  if (!complete_ || !has_line_events_ || line >= kLines) return nullptr;
  return connect(event, line, ended);
}

std::unique_ptr<vcpu::EventInterrupt> InterruptChips::connect(int event, unsigned number,
                                                              int ended) {
  kvm_irqfd request{};
  request.fd = static_cast<uint32_t>(event);
  request.gsi = number;
  if (ended >= 0) {
    request.flags = KVM_IRQFD_FLAG_RESAMPLE;
    request.resamplefd = static_cast<uint32_t>(ended);
  }
  if (has_event_interrupts_ && call(vm_, KVM_IRQFD, &request) == 0)
    return std::make_unique<EventInterrupt>(*this, event, number);
  forget_message(number);
  return nullptr;
}

void InterruptChips::disconnect(int event, unsigned number) {
  kvm_irqfd request{};
  request.fd = static_cast<uint32_t>(event);
  request.gsi = number;
  request.flags = KVM_IRQFD_FLAG_DEASSIGN;
  call(vm_, KVM_IRQFD, &request);
  forget_message(number);
}

void InterruptChips::forget_message(unsigned number) {
  if (number < kLines) return;
  const std::lock_guard lock(mutex_);
  messages_.erase(number);  // what remains in the kernel's list until the next change sends nothing
}

uint8_t InterruptChips::task_priority(unsigned processor) {
  kvm_sregs sregs{};
  if (processor < local_apics_.size()) call(local_apics_[processor].vcpu, KVM_GET_SREGS, &sregs);
  return static_cast<uint8_t>(sregs.cr8);
}

void InterruptChips::set_task_priority(unsigned processor, uint8_t priority_class) {
  kvm_sregs sregs{};
  if (processor >= local_apics_.size() ||
      call(local_apics_[processor].vcpu, KVM_GET_SREGS, &sregs) < 0)
    return;
  sregs.cr8 = priority_class;
  call(local_apics_[processor].vcpu, KVM_SET_SREGS, &sregs);
}

void InterruptChips::reset() {
  for (auto& apic : local_apics_) {
    // The enable bit and x2APIC mode first: what the page means depends on them.
    kvm_sregs sregs{};
    if (call(apic.vcpu, KVM_GET_SREGS, &sregs) == 0) {
      constexpr uint64_t kBootstrap = 1u << 8, kEnabled = 1u << 11, kBase = 0xFEE0'0000;
      sregs.apic_base = kBase | kEnabled | (sregs.apic_base & kBootstrap);
      sregs.cr8 = 0;
      call(apic.vcpu, KVM_SET_SREGS, &sregs);
    }
    if (call(apic.vcpu, KVM_SET_LAPIC, &apic.state) < 0)
      log::error("kvm: the local APIC cannot be reset: KVM_SET_LAPIC: {}", errno);
  }
  if (!complete_) return;
  for (auto& chip : chips_) call(vm_, KVM_SET_IRQCHIP, &chip);
  if (has_timer_) call(vm_, KVM_SET_PIT2, &timer_);
}

}  // namespace limen::kvm
