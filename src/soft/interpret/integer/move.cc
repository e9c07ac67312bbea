// MOV, MOVZX, MOVSX, MOVSXD, LEA, BSWAP, CMOVcc, SETcc, sign extensions of the accumulator, XLAT.
#include <algorithm>
#include <optional>

#include "soft/interpret/integer/condition.h"
#include "soft/interpret/integer/forms.h"

namespace limen::soft::interpret {
namespace {

template <typename T>
struct MoveRegisterRegister {
  static void run(Cpu& cpu, const Operation& operation) {
    set_register<T>(cpu, operation.reg, get_register<T>(cpu, operation.rm));
  }
};
template <typename T>
struct MoveRegisterImmediate {
  static void run(Cpu& cpu, const Operation& operation) {
    set_register<T>(cpu, operation.reg, static_cast<T>(operation.immediate));
  }
};
template <typename T>
struct Load {
  static void run(Cpu& cpu, const Operation& operation) {
    set_register<T>(cpu, operation.reg,
                    cpu.mmu.read<T>(operand_linear(cpu, operation, sizeof(T), AccessKind::kRead)));
  }
};
template <typename T>
struct Store {
  static void run(Cpu& cpu, const Operation& operation) {
    cpu.mmu.write<T>(operand_linear(cpu, operation, sizeof(T), AccessKind::kWrite),
                     get_register<T>(cpu, operation.reg));
  }
};
template <typename T>
struct StoreImmediate {
  static void run(Cpu& cpu, const Operation& operation) {
    cpu.mmu.write<T>(operand_linear(cpu, operation, sizeof(T), AccessKind::kWrite),
                     static_cast<T>(operation.immediate));
  }
};

// MOV between the accumulator and an absolute offset (opcodes A0-A3): the offset can have 64 bits,
// so it stands in the immediate.
template <typename T>
struct LoadAbsolute {
  static void run(Cpu& cpu, const Operation& operation) {
    set_register<T>(cpu, x86::kRax, read_memory<T>(cpu, operation.segment, operation.immediate));
  }
};
template <typename T>
struct StoreAbsolute {
  static void run(Cpu& cpu, const Operation& operation) {
    write_memory<T>(cpu, operation.segment, operation.immediate, get_register<T>(cpu, x86::kRax));
  }
};

Handler select_mov(const decode::Instruction& instruction, Operation& operation) {
  const unsigned size = operation.operand_size;
  const bool absolute = (is_memory(instruction, 0) &&
                         instruction.operands[0].encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64) ||
                        (is_memory(instruction, 1) &&
                         instruction.operands[1].encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64);
  if (absolute)
    return is_memory(instruction, 0) ? by_size<StoreAbsolute>(size) : by_size<LoadAbsolute>(size);
  if (is_memory(instruction, 0)) {
    if (is_immediate(instruction, 1)) return by_size<StoreImmediate>(size);
    operation.reg = register_of(instruction, 1);
    return by_size<Store>(size);
  }
  operation.reg = register_of(instruction, 0);
  if (is_immediate(instruction, 1)) return by_size<MoveRegisterImmediate>(size);
  if (is_memory(instruction, 1)) return by_size<Load>(size);
  operation.rm = register_of(instruction, 1);
  return by_size<MoveRegisterRegister>(size);
}

/// Widens From to To with the signedness of From.
template <typename From, typename To>
struct Extend {
  using U = std::make_unsigned_t<From>;
  static void from_register(Cpu& cpu, const Operation& operation) {
    set_register<To>(cpu, operation.reg,
                     static_cast<To>(static_cast<From>(get_register<U>(cpu, operation.rm))));
  }
  static void from_memory(Cpu& cpu, const Operation& operation) {
    const U value = cpu.mmu.read<U>(operand_linear(cpu, operation, sizeof(U), AccessKind::kRead));
    set_register<To>(cpu, operation.reg, static_cast<To>(static_cast<From>(value)));
  }
};

template <typename From>
Handler select_extend_to(unsigned size, bool memory) {
  switch (size) {
    case 2:
      return memory ? Extend<From, uint16_t>::from_memory : Extend<From, uint16_t>::from_register;
    case 4:
      return memory ? Extend<From, uint32_t>::from_memory : Extend<From, uint32_t>::from_register;
    default:
      return memory ? Extend<From, uint64_t>::from_memory : Extend<From, uint64_t>::from_register;
  }
}

Handler select_extend(const decode::Instruction& instruction, Operation& operation,
                      bool is_signed) {
  operation.reg = register_of(instruction, 0);
  const bool memory = is_memory(instruction, 1);
  if (!memory) operation.rm = register_of(instruction, 1);
  const unsigned size = operation.operand_size;
  // MOVSXD to 16 bits reads no more than those (SDM Vol. 2B MOVSX).
  switch (std::min<unsigned>(instruction.operands[1].size, size * 8)) {
    case 8:
      return is_signed ? select_extend_to<int8_t>(size, memory)
                       : select_extend_to<uint8_t>(size, memory);
    case 16:
      return is_signed ? select_extend_to<int16_t>(size, memory)
                       : select_extend_to<uint16_t>(size, memory);
    default:
      return is_signed ? select_extend_to<int32_t>(size, memory)
                       : select_extend_to<uint32_t>(size, memory);
  }
}

template <typename T>
struct LoadEffectiveAddress {
  static void run(Cpu& cpu, const Operation& operation) {
    set_register<T>(cpu, operation.reg, static_cast<T>(effective_address(cpu, operation)));
  }
};

template <typename T>
struct ByteSwap {
  static void run(Cpu& cpu, const Operation& operation) {
    const T value = get_register<T>(cpu, operation.reg);
    // BSWAP of a 16-bit register is undefined; processors give 0 (SDM Vol. 2A BSWAP).
    if constexpr (sizeof(T) == 2)
      set_register<T>(cpu, operation.reg, 0);
    else if constexpr (sizeof(T) == 4)
      set_register<T>(cpu, operation.reg, __builtin_bswap32(value));
    else
      set_register<T>(cpu, operation.reg, __builtin_bswap64(value));
  }
};

template <unsigned kCondition>
struct Conditional {
  template <typename T>
  struct Move {
    static void run(Cpu& cpu, const Operation& operation) {
      // The source is read, and may fault, whatever the condition says; a 32-bit destination has
      // its upper half cleared either way (SDM Vol. 2A CMOVcc).
      const T source =
          operation.flags & Operation::kMemory
              ? cpu.mmu.read<T>(operand_linear(cpu, operation, sizeof(T), AccessKind::kRead))
              : get_register<T>(cpu, operation.rm);
      const T old = get_register<T>(cpu, operation.reg);
      set_register<T>(cpu, operation.reg, holds<kCondition>(cpu) ? source : old);
    }
  };
  struct Set {
    static void run(Cpu& cpu, const Operation& operation) {
      const uint8_t value = holds<kCondition>(cpu);
      if (operation.flags & Operation::kMemory)
        cpu.mmu.write<uint8_t>(operand_linear(cpu, operation, 1, AccessKind::kWrite), value);
      else
        set_register<uint8_t>(cpu, operation.rm, value);
    }
  };
};

Handler select_conditional_move(unsigned condition, unsigned size) {
  return with_condition(condition, [&]<unsigned kCondition>() {
    return by_wide_size<Conditional<kCondition>::template Move>(size);
  });
}

Handler select_conditional_set(unsigned condition) {
  return with_condition(
      condition, []<unsigned kCondition>() { return Handler{Conditional<kCondition>::Set::run}; });
}

template <typename From, typename To>
void extend_accumulator(Cpu& cpu, const Operation&) {
  using Signed = std::make_signed_t<From>;
  set_register<To>(cpu, x86::kRax,
                   static_cast<To>(static_cast<Signed>(get_register<From>(cpu, x86::kRax))));
}

template <typename T>
void sign_to_rdx(Cpu& cpu, const Operation&) {
  const bool negative = (get_register<T>(cpu, x86::kRax) >> (8 * sizeof(T) - 1)) != 0;
  set_register<T>(cpu, x86::kRdx, negative ? static_cast<T>(~T{0}) : T{0});
}

void translate_byte(Cpu& cpu, const Operation& operation) {
  uint64_t offset = cpu.gpr[x86::kRbx] + get_register<uint8_t>(cpu, x86::kRax);
  if (operation.address_size == 4) offset = static_cast<uint32_t>(offset);
  if (operation.address_size == 2) offset = static_cast<uint16_t>(offset);
  set_register<uint8_t>(cpu, x86::kRax, read_memory<uint8_t>(cpu, operation.segment, offset));
}

}  // namespace

Handler select_move(const decode::Instruction& instruction, Operation& operation) {
  const auto is_general = [&](unsigned operand) {
    // MOV to and from segment, control and debug registers is another one.
    return !is_register(instruction, operand) ||
           decode::is_general(instruction.operands[operand].reg.value);
  };
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_MOV:
      if (!is_general(0) || !is_general(1)) return nullptr;
      return select_mov(instruction, operation);
    case ZYDIS_MNEMONIC_MOVZX:
      return select_extend(instruction, operation, false);
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
      return select_extend(instruction, operation, true);
    case ZYDIS_MNEMONIC_LEA:
      return by_wide_size<LoadEffectiveAddress>(operation.operand_size);
    case ZYDIS_MNEMONIC_BSWAP:
      return by_wide_size<ByteSwap>(operation.operand_size);
    case ZYDIS_MNEMONIC_CBW:
      return extend_accumulator<uint8_t, uint16_t>;
    case ZYDIS_MNEMONIC_CWDE:
      return extend_accumulator<uint16_t, uint32_t>;
    case ZYDIS_MNEMONIC_CDQE:
      return extend_accumulator<uint32_t, uint64_t>;
    case ZYDIS_MNEMONIC_CWD:
      return sign_to_rdx<uint16_t>;
    case ZYDIS_MNEMONIC_CDQ:
      return sign_to_rdx<uint32_t>;
    case ZYDIS_MNEMONIC_CQO:
      return sign_to_rdx<uint64_t>;
    case ZYDIS_MNEMONIC_XLAT:
      operation.segment = segment_of_hidden_memory(instruction);
      return translate_byte;
    default:
      break;
  }
  // 0F 40-4F and 0F 90-9F hold their condition in the opcode.
  if (instruction.raw.opcode_map == ZYDIS_OPCODE_MAP_0F) {
    const unsigned condition = instruction.raw.opcode & 15u;
    if ((instruction.raw.opcode & 0xF0) == 0x40)
      return select_conditional_move(condition, operation.operand_size);
    if ((instruction.raw.opcode & 0xF0) == 0x90) return select_conditional_set(condition);
  }
  return nullptr;
}

}  // namespace limen::soft::interpret
