// Local APICs that the accelerator has, as a machine's own parts see them.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "irq/io_apic_bus.h"
#include "irq/msi.h"
#include "irq/pic_8259.h"
#include "vcpu/interrupt_chips.h"
#include "vcpu/local_interrupt_controller.h"

namespace limen::irq {

/// Takes the place of an ApicBus. `chips` outlives it. Thread-safe.
class AcceleratedApics final : public MsiSink, public IoApicBus {
 public:
  /// `notify` is called when a processor has something to ask its port for.
  AcceleratedApics(vcpu::InterruptChips& chips, unsigned processors,
                   std::function<void(unsigned processor)> notify);
  ~AcceleratedApics() override;

  void send_msi(const MsiMessage& message) override;
  [[nodiscard]] std::unique_ptr<vcpu::EventInterrupt> connect(int event,
                                                              const MsiMessage& message) override {
    return chips_.connect_msi(event, message.address, message.data);
  }
  void add(IoApic& io_apic) override;
  void remove(IoApic& io_apic) override;
  bool deliver(const ApicDestination& destination, const ApicMessage& message) override;
  void entry_changed(unsigned line, const ApicDestination& destination,
                     const ApicMessage& message) override;

  /// What is left for a processor to ask the machine for: the 8259, NMIs of a person's, and to tell
  /// it, the ends of interrupts.
  [[nodiscard]] vcpu::LocalInterruptController& port(unsigned processor);
  /// The 8259 is the machine's, and wired to the bootstrap processor. Before any runs.
  void connect_pic(Pic8259& pic);
  /// Its output changed.
  void pic_changed() { notify_(0); }
  /// An NMI for every processor.
  void inject_nmi();

 private:
  class Port;

  vcpu::InterruptChips& chips_;
  const std::function<void(unsigned)> notify_;
  std::vector<std::unique_ptr<Port>> ports_;
  std::vector<IoApic*> io_;  // fixed before processors run
};

}  // namespace limen::irq
