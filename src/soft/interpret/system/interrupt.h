// Entry into a handler through the interrupt table of the current mode: what exceptions, external
// interrupts and INT n have in common (SDM Vol. 3A 6.12, 6.14, 20.1.4, 20.3).
#pragma once

#include <cstdint>
#include <optional>

#include "soft/cpu.h"

namespace limen::soft::interpret {

enum class EventKind : uint8_t {
  kExternal,   ///< Interrupt or NMI.
  kException,  ///< Raised by the processor, INT1 included.
  kSoftware,   ///< INT n, INT3, INTO: subject to the gate's DPL.
};

struct Event {
  uint8_t vector = 0;
  EventKind kind = EventKind::kExternal;
  std::optional<uint32_t> error_code = std::nullopt;
  uint64_t return_rip = 0;  ///< To push.
  uint64_t flags_set = 0;   ///< Bits to set in the pushed flags (RF).
};

/// Pushes the frame and enters the handler; its address is left in gpr[kNextRip]. Throws what the
/// delivery itself raises, before any change (but see switch_task()).
void enter_handler(Cpu& cpu, const Event& event);

}  // namespace limen::soft::interpret
