// Flag instructions, no-operations, fences, and the decimal instructions of 16- and 32-bit code.
#include "soft/interpret/integer/alu.h"
#include "soft/interpret/integer/forms.h"

namespace limen::soft::interpret {
namespace {

using namespace x86::rflags;

void no_operation(Cpu&, const Operation&) {}
void clear_carry(Cpu& cpu, const Operation&) {
  cpu.flags_low = static_cast<uint8_t>(cpu.flags_low & ~kCarry);
}
void set_carry(Cpu& cpu, const Operation&) {
  cpu.flags_low = static_cast<uint8_t>(cpu.flags_low | kCarry);
}
void complement_carry(Cpu& cpu, const Operation&) {
  cpu.flags_low = static_cast<uint8_t>(cpu.flags_low ^ kCarry);
}
void clear_direction(Cpu& cpu, const Operation&) { cpu.flags_rest &= ~kDirection; }
void set_direction(Cpu& cpu, const Operation&) { cpu.flags_rest |= kDirection; }
void load_ah(Cpu& cpu, const Operation&) { set_register<uint8_t>(cpu, 20, cpu.flags_low); }
void store_ah(Cpu& cpu, const Operation&) {
  cpu.flags_low = static_cast<uint8_t>((get_register<uint8_t>(cpu, 20) & 0xD5) | 2);
}
void set_al_from_carry(Cpu& cpu, const Operation&) {
  set_register<uint8_t>(cpu, x86::kRax, cpu.flags_low & kCarry ? 0xFF : 0);
}
void memory_fence(Cpu&, const Operation&) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void pause(Cpu&, const Operation&) { __builtin_ia32_pause(); }

// The decimal adjustments do not exist in the host's mode: SDM Vol. 2A spells them out.

/// SF, ZF and PF of AL, as AND AL,AL gives them; the caller sets CF and AF.
void set_result_flags(Cpu& cpu, uint8_t al, bool carry, bool auxiliary) {
  And::run<uint8_t>(cpu, al, al);
  cpu.flags_low = static_cast<uint8_t>((cpu.flags_low & ~(kCarry | kAuxiliary)) |
                                       (carry ? kCarry : 0) | (auxiliary ? kAuxiliary : 0));
}

template <int kSign>
void decimal_adjust(Cpu& cpu, const Operation&) {
  const auto old = get_register<uint8_t>(cpu, x86::kRax);
  const bool old_carry = cpu.flags_low & kCarry;
  uint8_t al = old;
  bool carry = false;
  bool auxiliary = false;
  if ((al & 0xF) > 9 || (cpu.flags_low & kAuxiliary)) {
    al = static_cast<uint8_t>(al + kSign * 6);
    carry = old_carry || (kSign < 0 ? old < 6 : old > 0xF9);
    auxiliary = true;
  }
  if (old > 0x99 || old_carry) {
    al = static_cast<uint8_t>(al + kSign * 0x60);
    carry = true;
  } else if (kSign > 0) {
    carry = false;
  }
  set_register<uint8_t>(cpu, x86::kRax, al);
  set_result_flags(cpu, al, carry, auxiliary);
}

template <int kSign>
void ascii_adjust(Cpu& cpu, const Operation&) {
  auto ax = get_register<uint16_t>(cpu, x86::kRax);
  const bool adjust = (ax & 0xF) > 9 || (cpu.flags_low & kAuxiliary);
  if (adjust) ax = static_cast<uint16_t>(ax + kSign * 0x106);
  ax &= 0xFF0F;
  set_register<uint16_t>(cpu, x86::kRax, ax);
  set_result_flags(cpu, static_cast<uint8_t>(ax), adjust, adjust);
}

void ascii_adjust_multiply(Cpu& cpu, const Operation& operation) {
  const auto base = static_cast<uint8_t>(operation.immediate);
  if (base == 0) Cpu::raise(x86::Exception::plain(x86::Vector::kDivideError));
  const auto al = get_register<uint8_t>(cpu, x86::kRax);
  const auto ah = static_cast<uint8_t>(al / base);
  const auto low = static_cast<uint8_t>(al % base);
  set_register<uint16_t>(cpu, x86::kRax, static_cast<uint16_t>(ah << 8 | low));
  set_result_flags(cpu, low, false, false);
}

void ascii_adjust_divide(Cpu& cpu, const Operation& operation) {
  const auto ax = get_register<uint16_t>(cpu, x86::kRax);
  const auto base = static_cast<uint8_t>(operation.immediate);
  auto al = static_cast<uint8_t>(ax);
  // Processors set the flags as the addition does.
  Add::run<uint8_t>(cpu, al, static_cast<uint8_t>((ax >> 8) * base));
  set_register<uint16_t>(cpu, x86::kRax, al);
}

}  // namespace

Handler select_flags(const decode::Instruction& instruction, Operation&) {
  if (decode::is_hint(instruction.mnemonic())) return no_operation;
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_PAUSE:
      return pause;
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_MFENCE:
    case ZYDIS_MNEMONIC_SFENCE:
      return memory_fence;
    case ZYDIS_MNEMONIC_CLC:
      return clear_carry;
    case ZYDIS_MNEMONIC_STC:
      return set_carry;
    case ZYDIS_MNEMONIC_CMC:
      return complement_carry;
    case ZYDIS_MNEMONIC_CLD:
      return clear_direction;
    case ZYDIS_MNEMONIC_STD:
      return set_direction;
    case ZYDIS_MNEMONIC_LAHF:
      return load_ah;
    case ZYDIS_MNEMONIC_SAHF:
      return store_ah;
    case ZYDIS_MNEMONIC_SALC:
      return set_al_from_carry;
    case ZYDIS_MNEMONIC_DAA:
      return decimal_adjust<1>;
    case ZYDIS_MNEMONIC_DAS:
      return decimal_adjust<-1>;
    case ZYDIS_MNEMONIC_AAA:
      return ascii_adjust<1>;
    case ZYDIS_MNEMONIC_AAS:
      return ascii_adjust<-1>;
    case ZYDIS_MNEMONIC_AAM:
      return ascii_adjust_multiply;
    case ZYDIS_MNEMONIC_AAD:
      return ascii_adjust_divide;
    default:
      return nullptr;
  }
}

}  // namespace limen::soft::interpret
