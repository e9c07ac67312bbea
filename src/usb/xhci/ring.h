// The consumer's end of a command or transfer ring (xHCI 1.2 §4.9).
#pragma once

#include <cstdint>
#include <vector>

#include "memory/guest_memory.h"
#include "usb/xhci/registers.h"

namespace limen::usb::xhci {

/// A block and where it lies.
struct PlacedTrb {
  Trb trb;
  uint64_t address = 0;
};

enum class Fetched : uint8_t {
  kSome,
  kNone,    ///< The driver has not given it yet.
  kBroken,  ///< Memory that is none, links that lead nowhere, a transfer without an end.
};

struct Ring {
  uint64_t dequeue = 0;
  bool cycle = true;  ///< Of blocks that are the controller's.

  /// The next block behind links; the ring then stands behind it.
  Fetched fetch(const memory::GuestMemory& memory, PlacedTrb& into);
  /// All blocks of the next transfer descriptor (§4.11.1): those with the chain bit and the one
  /// after. Where some are missing the ring stays where it is.
  Fetched fetch_descriptor(const memory::GuestMemory& memory, std::vector<PlacedTrb>& into);
};

}  // namespace limen::usb::xhci
