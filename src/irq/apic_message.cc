#include "irq/apic_message.h"

namespace limen::irq {

MsiMessage as_msi(const ApicDestination& destination, const ApicMessage& message) {
  constexpr uint64_t kBase = 0xFEE0'0000;
  constexpr uint32_t kAssert = 1u << 14, kLevel = 1u << 15;
  const bool lowest = message.mode == DeliveryMode::kLowestPriority;
  MsiMessage out;
  out.address = kBase | uint64_t{destination.id & 0xFF} << 12 | (lowest ? uint64_t{1} << 3 : 0) |
                (destination.logical ? uint64_t{1} << 2 : 0);
  out.data = message.vector | static_cast<uint32_t>(message.mode) << 8 | kAssert |
             (message.level_triggered ? kLevel : 0);
  return out;
}

}  // namespace limen::irq
