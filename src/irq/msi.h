// Message-signalled interrupts: a memory write that a local APIC takes (SDM Vol. 3A 11.11).
#pragma once

#include <cstdint>
#include <memory>

#include "vcpu/event_interrupt.h"

namespace limen::irq {

struct MsiMessage {
  uint64_t address = 0;
  uint32_t data = 0;
  bool operator==(const MsiMessage&) const = default;
};

class MsiSink {
 public:
  virtual ~MsiSink() = default;
  /// Thread-safe; called without any device's lock held.
  virtual void send_msi(const MsiMessage& message) = 0;
  /// Has the eventfd(2) `event`, which outlives the result, send `message` by itself. nullptr: the
  /// caller watches the event. Thread-safe.
  [[nodiscard]] virtual std::unique_ptr<vcpu::EventInterrupt> connect(
      [[maybe_unused]] int event, [[maybe_unused]] const MsiMessage& message) {
    return nullptr;
  }
};

}  // namespace limen::irq
