// Message-signalled interrupts: a memory write that a local APIC takes (SDM Vol. 3A 11.11).
#pragma once

#include <cstdint>

namespace limen::irq {

struct MsiMessage {
  uint64_t address = 0;
  uint32_t data = 0;
};

class MsiSink {
 public:
  virtual ~MsiSink() = default;
  /// Thread-safe; called without any device's lock held.
  virtual void send_msi(const MsiMessage& message) = 0;
};

}  // namespace limen::irq
