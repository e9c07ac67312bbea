// Where far jumps, calls, returns and interrupts go: the code segment they load and the checks on
// it (SDM Vol. 3A 5.8).
#pragma once

#include <cstdint>

#include "soft/cpu.h"
#include "soft/interpret/system/descriptor.h"
#include "soft/interpret/system/frame.h"

namespace limen::soft::interpret {

/// A checked code segment and the offset in it.
struct CodeTarget {
  x86::Segment segment;
  uint64_t offset = 0;
};

/// Throws #GP(`external`) unless `offset` is inside the segment or, for 64-bit code, canonical.
void check_code_offset(const Cpu& cpu, const x86::Segment& segment, uint64_t offset,
                       uint32_t external = 0);

/// Where a far jump, call or return to `offset` goes on, checked so. In IA-32e mode all but 64-bit
/// code gets the lower 32 bits alone.
[[nodiscard]] uint64_t checked_code_offset(const Cpu& cpu, const x86::Segment& segment,
                                           uint64_t offset);

/// The segment that the descriptor makes of CS at privilege `cpl`, presence and L/D checked,
/// accessed bit set. The caller has checked type and privilege.
x86::Segment make_code_segment(Cpu& cpu, uint16_t selector, Descriptor& descriptor, unsigned cpl,
                               uint32_t external = 0);

/// Commits: CS, the mode and gpr[kNextRip].
void enter_code(Cpu& cpu, const CodeTarget& target);

/// As enter_code(), with a new stack (of another privilege level or task) behind it.
void enter_code_with_stack(Cpu& cpu, const CodeTarget& target, const StackTarget& stack,
                           uint64_t stack_pointer);

/// The ring-`level` stack pointer of the running task (SDM Vol. 3A 5.8.5, 7.2.1). In IA-32e mode SS
/// becomes null. Faults as #TS, with `external` as EXT bit.
StackTarget inner_stack(Cpu& cpu, unsigned level, uint32_t external);

/// JMP and CALL through a call gate (SDM Vol. 3A 5.8.3 to 5.8.5).
void transfer_through_call_gate(Cpu& cpu, uint16_t selector, Descriptor gate, bool is_call);

/// Far JMP (`is_call` false) or CALL to selector:offset in any mode.
void far_transfer(Cpu& cpu, uint16_t selector, uint64_t offset, unsigned operand_size,
                  bool is_call);

}  // namespace limen::soft::interpret
