// Distinct types for distinct addresses, so that one is never taken for another.
#pragma once

#include <compare>
#include <cstdint>

namespace limen {

/// An address on the guest's physical bus (RAM, ROM or device).
struct GuestPhysicalAddress {
  uint64_t value = 0;
  constexpr auto operator<=>(const GuestPhysicalAddress&) const = default;
  [[nodiscard]] constexpr GuestPhysicalAddress operator+(uint64_t offset) const {
    return {value + offset};
  }
  [[nodiscard]] constexpr uint64_t operator-(GuestPhysicalAddress other) const {
    return value - other.value;
  }
};

/// An address after segmentation and before paging (SDM Vol. 3A 3.1, "linear address").
struct GuestLinearAddress {
  uint64_t value = 0;
  constexpr auto operator<=>(const GuestLinearAddress&) const = default;
  [[nodiscard]] constexpr GuestLinearAddress operator+(uint64_t offset) const {
    return {value + offset};
  }
};

}  // namespace limen
