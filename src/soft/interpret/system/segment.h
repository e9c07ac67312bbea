// Segment registers: what a load checks and what it leaves in the hidden part (SDM Vol.
// 3A 3.4, 5.6, 5.7; Vol. 2B "MOV").
#pragma once

#include <cstdint>

#include "soft/cpu.h"
#include "soft/interpret/system/descriptor.h"

namespace limen::soft::interpret {

/// Whether [offset, offset + size) lies in the segment (SDM Vol. 3A 5.3).
[[nodiscard]] bool within_limit(const x86::Segment& segment, uint64_t offset, uint64_t size);

/// A segment register after a null selector: unusable. `dpl` keeps CPL for a null SS.
[[nodiscard]] x86::Segment null_segment(uint16_t selector, unsigned dpl = 0);

/// The fixed segments that SYSCALL and its kind load without a look at any descriptor.
[[nodiscard]] x86::Segment flat_code_segment(uint16_t selector, unsigned dpl, bool is_long);
[[nodiscard]] x86::Segment flat_stack_segment(uint16_t selector, unsigned dpl);

/// What a load in real-address mode makes of a segment register: the limit stays, which is what
/// "unreal mode" lives on (SDM Vol. 3A 9.9.1, 20.1.1).
[[nodiscard]] x86::Segment real_mode_segment(const x86::Segment& before, uint16_t selector);

/// What a load in virtual-8086 mode makes of a segment register (SDM Vol. 3A 20.2.1).
[[nodiscard]] x86::Segment virtual_8086_segment(uint16_t selector);

/// The value to load into DS, ES, FS or GS at privilege `cpl` in protected mode, all checks done
/// and the accessed bit set. `fault` is #GP, or #TS during a task switch.
x86::Segment checked_data_segment(Cpu& cpu, uint16_t selector, unsigned cpl,
                                  x86::Vector fault = x86::Vector::kGeneralProtection,
                                  uint32_t external = 0);

/// The value to load into SS for privilege level `cpl`. A null selector raises `fault`.
x86::Segment checked_stack_segment(Cpu& cpu, uint16_t selector, unsigned cpl,
                                   x86::Vector fault = x86::Vector::kGeneralProtection,
                                   uint32_t external = 0);

/// MOV, POP and LxS to a segment register other than CS, in any mode. Calls update_mode() for SS.
void load_segment_register(Cpu& cpu, uint8_t segment, uint16_t selector);

/// On a return to an outer level: DS, ES, FS and GS that the new CPL may not use become null
/// (SDM Vol. 3A 5.8.6, "RET" in Vol. 2B).
void drop_inner_data_segments(Cpu& cpu, unsigned new_cpl);

}  // namespace limen::soft::interpret
