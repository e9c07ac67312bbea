#include "irq/accelerated_apics.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "irq/io_apic.h"
#include "vcpu/no_interrupts.h"

namespace limen::irq {

class AcceleratedApics::Port final : public vcpu::NoInterrupts {
 public:
  Port(AcceleratedApics& apics, unsigned processor) : apics_(apics), processor_(processor) {}

  bool has_interrupt() override { return pic != nullptr && pic->output(); }
  std::optional<uint8_t> acknowledge() override {
    if (!has_interrupt()) return std::nullopt;
    return pic->acknowledge();
  }
  EventRequest take_event() override {
    if (!nmi.exchange(false)) return {};
    return {.event = Event::kNmi};
  }
  uint8_t task_priority() override { return apics_.chips_.task_priority(processor_); }
  void set_task_priority(uint8_t priority_class) override {
    apics_.chips_.set_task_priority(processor_, priority_class);
  }
  void end_of_interrupt(uint8_t vector) override {
    for (IoApic* io_apic : apics_.io_) io_apic->end_of_interrupt(vector);
  }

  Pic8259* pic = nullptr;
  std::atomic<bool> nmi = false;

 private:
  AcceleratedApics& apics_;
  const unsigned processor_;
};

AcceleratedApics::AcceleratedApics(vcpu::InterruptChips& chips, unsigned processors,
                                   std::function<void(unsigned)> notify)
    : chips_(chips), notify_(std::move(notify)) {
  for (unsigned i = 0; i < processors; ++i) ports_.push_back(std::make_unique<Port>(*this, i));
}

AcceleratedApics::~AcceleratedApics() = default;

void AcceleratedApics::send_msi(const MsiMessage& message) {
  static_cast<void>(chips_.send_msi(message.address, message.data));
}

void AcceleratedApics::add(IoApic& io_apic) { io_.push_back(&io_apic); }
void AcceleratedApics::remove(IoApic& io_apic) { std::erase(io_, &io_apic); }

bool AcceleratedApics::deliver(const ApicDestination& destination, const ApicMessage& message) {
  const MsiMessage msi = as_msi(destination, message);
  return chips_.send_msi(msi.address, msi.data);
}

void AcceleratedApics::entry_changed(unsigned line, const ApicDestination& destination,
                                     const ApicMessage& message) {
  const MsiMessage msi = as_msi(destination, message);
  chips_.set_io_apic_route(line, msi.address, msi.data);
}

vcpu::LocalInterruptController& AcceleratedApics::port(unsigned processor) {
  return *ports_[processor];
}

void AcceleratedApics::connect_pic(Pic8259& pic) { ports_.front()->pic = &pic; }

void AcceleratedApics::inject_nmi() {
  for (unsigned i = 0; i < ports_.size(); ++i) {
    ports_[i]->nmi = true;
    notify_(i);
  }
}

}  // namespace limen::irq
