// ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST; INC, DEC, NEG, NOT.
#include "soft/interpret/integer/alu.h"
#include "soft/interpret/integer/forms.h"

namespace limen::soft::interpret {
namespace {

// Forms of `Op destination, source`: operation.reg is the first register operand, operation.rm the
// second.

template <typename Op>
struct Binary {
  template <typename T>
  struct RegisterRegister {
    static void run(Cpu& cpu, const Operation& operation) {
      T value = get_register<T>(cpu, operation.reg);
      Op::run(cpu, value, get_register<T>(cpu, operation.rm));
      if constexpr (Op::kWrites) set_register<T>(cpu, operation.reg, value);
    }
  };
  template <typename T>
  struct RegisterImmediate {
    static void run(Cpu& cpu, const Operation& operation) {
      T value = get_register<T>(cpu, operation.reg);
      Op::run(cpu, value, static_cast<T>(operation.immediate));
      if constexpr (Op::kWrites) set_register<T>(cpu, operation.reg, value);
    }
  };
  template <typename T>
  struct RegisterMemory {
    static void run(Cpu& cpu, const Operation& operation) {
      const T source =
          cpu.mmu.read<T>(operand_linear(cpu, operation, sizeof(T), AccessKind::kRead));
      T value = get_register<T>(cpu, operation.reg);
      Op::run(cpu, value, source);
      if constexpr (Op::kWrites) set_register<T>(cpu, operation.reg, value);
    }
  };

  template <typename T>
  static void change_memory(Cpu& cpu, const Operation& operation, T source) {
    if constexpr (Op::kWrites) {
      const uint64_t linear = operand_linear(cpu, operation, sizeof(T), AccessKind::kWrite);
      const auto change = [&](T& value) { Op::run(cpu, value, source); };
      if (operation.flags & Operation::kLock)
        modify_memory_locked<T>(cpu, linear, change,
                                [&](T* host) { Op::run_locked(cpu, host, source); });
      else
        modify_memory<T>(cpu, linear, change);
    } else {
      T value = cpu.mmu.read<T>(operand_linear(cpu, operation, sizeof(T), AccessKind::kRead));
      Op::run(cpu, value, source);
    }
  }
  template <typename T>
  struct MemoryRegister {
    static void run(Cpu& cpu, const Operation& operation) {
      change_memory<T>(cpu, operation, get_register<T>(cpu, operation.reg));
    }
  };
  template <typename T>
  struct MemoryImmediate {
    static void run(Cpu& cpu, const Operation& operation) {
      change_memory<T>(cpu, operation, static_cast<T>(operation.immediate));
    }
  };

  static Handler select(const decode::Instruction& instruction, Operation& operation) {
    const unsigned size = operation.operand_size;
    if (is_memory(instruction, 0)) {
      if (is_immediate(instruction, 1)) return by_size<MemoryImmediate>(size);
      operation.reg = register_of(instruction, 1);
      return by_size<MemoryRegister>(size);
    }
    operation.reg = register_of(instruction, 0);
    if (is_immediate(instruction, 1)) return by_size<RegisterImmediate>(size);
    if (is_memory(instruction, 1)) return by_size<RegisterMemory>(size);
    operation.rm = register_of(instruction, 1);
    return by_size<RegisterRegister>(size);
  }
};

template <typename Op>
struct Unary {
  template <typename T>
  struct Register {
    static void run(Cpu& cpu, const Operation& operation) {
      T value = get_register<T>(cpu, operation.reg);
      Op::run(cpu, value);
      set_register<T>(cpu, operation.reg, value);
    }
  };
  template <typename T>
  struct Memory {
    static void run(Cpu& cpu, const Operation& operation) {
      const uint64_t linear = operand_linear(cpu, operation, sizeof(T), AccessKind::kWrite);
      const auto change = [&](T& value) { Op::run(cpu, value); };
      if (operation.flags & Operation::kLock)
        modify_memory_locked<T>(cpu, linear, change, [&](T* host) { Op::run_locked(cpu, host); });
      else
        modify_memory<T>(cpu, linear, change);
    }
  };

  static Handler select(const decode::Instruction& instruction, Operation& operation) {
    if (is_memory(instruction, 0)) return by_size<Memory>(operation.operand_size);
    operation.reg = register_of(instruction, 0);
    return by_size<Register>(operation.operand_size);
  }
};

}  // namespace

Handler select_arithmetic(const decode::Instruction& instruction, Operation& operation) {
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_ADD:
      return Binary<Add>::select(instruction, operation);
    case ZYDIS_MNEMONIC_OR:
      return Binary<Or>::select(instruction, operation);
    case ZYDIS_MNEMONIC_ADC:
      return Binary<AddWithCarry>::select(instruction, operation);
    case ZYDIS_MNEMONIC_SBB:
      return Binary<SubtractWithBorrow>::select(instruction, operation);
    case ZYDIS_MNEMONIC_AND:
      return Binary<And>::select(instruction, operation);
    case ZYDIS_MNEMONIC_SUB:
      return Binary<Sub>::select(instruction, operation);
    case ZYDIS_MNEMONIC_XOR:
      return Binary<Xor>::select(instruction, operation);
    case ZYDIS_MNEMONIC_CMP:
      return Binary<Compare>::select(instruction, operation);
    case ZYDIS_MNEMONIC_TEST:
      return Binary<Test>::select(instruction, operation);
    case ZYDIS_MNEMONIC_INC:
      return Unary<Increment>::select(instruction, operation);
    case ZYDIS_MNEMONIC_DEC:
      return Unary<Decrement>::select(instruction, operation);
    case ZYDIS_MNEMONIC_NEG:
      return Unary<Negate>::select(instruction, operation);
    case ZYDIS_MNEMONIC_NOT:
      return Unary<Not>::select(instruction, operation);
    default:
      return nullptr;
  }
}

}  // namespace limen::soft::interpret
