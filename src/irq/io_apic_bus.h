// What an I/O APIC sends through.
#pragma once

#include "irq/apic_message.h"

namespace limen::irq {

class IoApic;

class IoApicBus {
 public:
  virtual ~IoApicBus() = default;
  /// I/O APICs join before any processor runs.
  virtual void add(IoApic& io_apic) = 0;
  virtual void remove(IoApic& io_apic) = 0;
  /// Gives `message` to every local APIC that `destination` names; for lowest-priority delivery to
  /// the one among them with the lowest processor priority. False if nobody took it.
  virtual bool deliver(const ApicDestination& destination, const ApicMessage& message) = 0;
  /// What `line` sends from now on.
  virtual void entry_changed([[maybe_unused]] unsigned line,
                             [[maybe_unused]] const ApicDestination& destination,
                             [[maybe_unused]] const ApicMessage& message) {}
};

}  // namespace limen::irq
