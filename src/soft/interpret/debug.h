// Debug registers (SDM Vol. 3B 17.2, 17.3). Data breakpoints are watched by the MMU; the run loop
// asks for instruction breakpoints while debug_active(), and delivers what pending_debug collects.
#pragma once

#include <cstdint>

#include "soft/cpu.h"
#include "x86/registers.h"

namespace limen::soft::interpret {

namespace dr6 = x86::dr6;

/// Whether any breakpoint of DR7 is armed: instructions must then be run one by one.
[[nodiscard]] inline bool debug_active(const Cpu& cpu) { return (cpu.system.dr[7] & 0xFF) != 0; }

/// DR6 bits of the instruction breakpoints at `linear`; none while RFLAGS.RF is set. Non-zero: the
/// run loop raises #DB, a fault, before it runs the instruction. The run loop clears RF after
/// each instruction that it completes.
[[nodiscard]] uint64_t instruction_breakpoint_hits(const Cpu& cpu, uint64_t linear);

/// Adds to activity.pending_debug the I/O breakpoints (CR4.DE) that the port access hits.
void note_port_access(Cpu& cpu, uint16_t port, unsigned size);

/// To be called when DR0-DR3 or DR7 changed.
void debug_registers_changed(Cpu& cpu);

/// What the processor does to DR6, DR7 and IA32_DEBUGCTL before it delivers #DB.
void record_debug_exception(Cpu& cpu, uint64_t status);

}  // namespace limen::soft::interpret
