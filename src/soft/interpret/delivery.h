// Delivery of exceptions and interrupts through the IDT (SDM Vol. 3A 6.12, 6.14).
#pragma once

#include <cstdint>

#include "soft/cpu.h"

namespace limen::soft::interpret {

/// Delivers a fault or trap that was raised while cpu.rip is the address to push (faults: the
/// faulting instruction; traps: the next one). Handles contributory faults and #DF (SDM Vol.
/// 3A 6.15, "Interrupt 8"). False: triple fault, the processor is shut down.
[[nodiscard]] bool deliver_exception(Cpu& cpu, const x86::Exception& exception);

/// Delivers an external interrupt or an NMI (vector 2) with cpu.rip the address to return to.
[[nodiscard]] bool deliver_interrupt(Cpu& cpu, uint8_t vector);

/// INIT and start-up IPI effects (SDM Vol. 3A 9.1, 8.4).
void apply_init(Cpu& cpu);
void apply_startup(Cpu& cpu, uint8_t vector);

}  // namespace limen::soft::interpret
