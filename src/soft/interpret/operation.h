// The form in which the interpreter keeps a decoded instruction: one cache line with the function
// that runs it.
#pragma once

#include <array>
#include <cstdint>

namespace limen::soft {
struct Cpu;
}

namespace limen::soft::interpret {

struct Operation;

/// Runs one instruction. On entry cpu.rip is the instruction's address and cpu.gpr[kNextRip] that
/// of the one behind it; a branch writes gpr[kNextRip]. A handler that faults throws x86::Exception
/// before it has changed any architectural state (partly done `rep` strings excepted).
using Handler = void (*)(Cpu& cpu, const Operation& operation);

/// Slots of Cpu::gpr behind the sixteen registers.
inline constexpr uint8_t kZeroRegister = 16;  ///< Always 0: "no base", "no index".
inline constexpr uint8_t kNextRip = 17;       ///< Base of a RIP-relative operand.

struct alignas(64) Operation {
  Handler handler = nullptr;
  uint64_t immediate = 0;  ///< Sign-extended as the instruction does it; branch: displacement.
  const void* native = nullptr;  ///< Generated thunk, for instructions that the host runs itself.
  int32_t displacement = 0;
  uint16_t mnemonic = 0;  ///< ZydisMnemonic.
  uint8_t length = 0;
  uint8_t operand_size = 0;  ///< Bytes: 1, 2, 4, 8.
  uint8_t address_size = 0;  ///< Bytes: 2, 4, 8.
  uint8_t base = kZeroRegister;
  uint8_t index = kZeroRegister;
  uint8_t scale = 0;    ///< log2.
  uint8_t segment = 0;  ///< x86::SegmentRegister of the memory operand, overrides applied.
  /// Register operands as Gpr numbers. For byte operands without REX, AH CH DH BH are 20 to 23.
  uint8_t reg = 0;  ///< ModRM.reg (or the opcode's register).
  uint8_t rm = 0;   ///< ModRM.rm where it names a register.
  uint8_t flags = 0;
  std::array<uint8_t, 15> bytes{};

  enum Flag : uint8_t {
    kMemory = 1,  ///< ModRM.rm is a memory operand.
    kLock = 2,
    kRep = 4,    ///< F3.
    kRepne = 8,  ///< F2.
    kEndsBlock = 16,
    kSystem = 32,      ///< Interrupts, mode or translations may differ behind it.
    kClassFlag = 128,  ///< Free for the class of the handler.
  };
};
static_assert(sizeof(Operation) == 64);

}  // namespace limen::soft::interpret
