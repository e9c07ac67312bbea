// Bytes -> one decoded form that every tier shares. The only place that knows Zydis by more than
// its names of mnemonics and registers.
#pragma once

#include <Zydis/Zydis.h>

#include <array>
#include <cstdint>
#include <span>

namespace limen::soft::decode {

/// How the bytes at CS:RIP are read (SDM Vol. 1 3.1, 3.3.4): by CS.D, CS.L and EFER.LMA.
enum class CodeMode : uint8_t { k16, k32, k64 };

inline constexpr unsigned kMaxInstructionLength = 15;

/// One decoded instruction. Operand order is the SDM's; hidden operands follow the visible ones.
struct Instruction {
  ZydisDecodedInstruction raw;
  std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
  std::array<uint8_t, kMaxInstructionLength> bytes;
  CodeMode mode;

  [[nodiscard]] ZydisMnemonic mnemonic() const { return raw.mnemonic; }
  [[nodiscard]] unsigned length() const { return raw.length; }
  [[nodiscard]] bool has(ZydisInstructionAttributes attribute) const {
    return (raw.attributes & attribute) != 0;
  }
};

enum class Outcome : uint8_t {
  kOk,
  kNeedMoreBytes,  ///< The bytes given end inside the instruction.
  kInvalid,        ///< #UD.
  kTooLong,        ///< More than 15 bytes: #GP(0) (SDM Vol. 3A 6.15, #GP).
};

/// NOP, ENDBR and PREFETCH: nothing that a guest sees comes of it.
[[nodiscard]] bool is_hint(ZydisMnemonic mnemonic);
[[nodiscard]] bool is_general(ZydisRegister reg);
/// Number of the 64-bit general register that `reg` is (part of).
[[nodiscard]] uint8_t general_number(ZydisRegister reg);

/// Decodes the instruction at the start of `bytes`; 15 of them always suffice.
Outcome decode(CodeMode mode, std::span<const uint8_t> bytes, Instruction& instruction);

}  // namespace limen::soft::decode
