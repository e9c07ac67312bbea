// What travels between interrupt controllers.
#pragma once

#include <cstdint>

#include "irq/msi.h"

namespace limen::irq {

/// The encoding of the delivery-mode field in the ICR, the LVT, a redirection entry and MSI data
/// (SDM Vol. 3A 11.6.1).
enum class DeliveryMode : uint8_t {
  kFixed = 0,
  kLowestPriority = 1,
  kSmi = 2,
  kNmi = 4,
  kInit = 5,
  kStartup = 6,
  kExternal = 7,  ///< ExtINT: the vector comes from the 8259.
};

struct ApicMessage {
  DeliveryMode mode = DeliveryMode::kFixed;
  uint8_t vector = 0;
  bool level_triggered = false;
};

/// Who is meant (SDM Vol. 3A 11.6.2).
struct ApicDestination {
  uint32_t id = 0;       ///< APIC ID, or a logical set of processors.
  bool logical = false;  ///< Destination mode.
  bool wide = false;  ///< `id` has 32 bits (sent in x2APIC mode); else 8, of which FFH means all.
};

/// The message as a device would write it to memory (SDM Vol. 3A 11.11).
[[nodiscard]] MsiMessage as_msi(const ApicDestination& destination, const ApicMessage& message);

}  // namespace limen::irq
