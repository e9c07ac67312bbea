// Interrupts that an eventfd(2) sends.
#pragma once

namespace limen::vcpu {

/// For as long as this is there, each signal of the event interrupts the guest without this
/// process's part. A signal that comes while nothing is connected waits in the event.
class EventInterrupt {
 public:
  virtual ~EventInterrupt() = default;
};

}  // namespace limen::vcpu
