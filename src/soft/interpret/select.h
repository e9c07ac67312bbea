// Which handler runs a decoded instruction. Each class of instructions has a select function that
// fills in what its handlers need and returns nullptr for an instruction that is not of its class.
#pragma once

#include "soft/decode/decoder.h"
#include "soft/interpret/operation.h"

namespace limen::soft {
struct Cpu;
}

namespace limen::soft::interpret {

/// Integer, string, stack and near control-flow instructions (integer/).
Handler select_integer(const decode::Instruction& instruction, Operation& operation);

/// Segments, far transfers, interrupts, control, debug and model-specific registers, CPUID, I/O
/// ports: everything whose meaning depends on rings and modes (system/).
Handler select_system(const decode::Instruction& instruction, Operation& operation);

/// x87, MMX, SSE to AVX-512, AES, SHA, BMI and whatever else user mode can run on the host: the
/// host's own instruction on the guest's state (native/).
Handler select_native(const decode::Instruction& instruction, Operation& operation, Cpu& cpu);

/// Fills the generic fields of `operation` (length, sizes, memory operand, reg, rm, immediate,
/// bytes) from the decoded form.
void fill_operation(const decode::Instruction& instruction, Operation& operation);

/// Zydis' register as the interpreter numbers it (Operation::reg): kZeroRegister for none, kNextRip
/// for the instruction pointer.
[[nodiscard]] uint8_t register_number(ZydisRegister reg);

/// Raises #UD; what an undecodable or unsupported instruction becomes.
void invalid_opcode(Cpu& cpu, const Operation& operation);

}  // namespace limen::soft::interpret
