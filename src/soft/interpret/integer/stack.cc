// PUSH, POP, PUSHA, POPA, ENTER, LEAVE (SDM Vol. 2A, 2B; Vol. 1 6.5).
#include "soft/interpret/stack.h"

#include "soft/interpret/integer/forms.h"

namespace limen::soft::interpret {
namespace {

template <typename T>
struct PushRegister {
  static void run(Cpu& cpu, const Operation& operation) {
    push<T>(cpu, get_register<T>(cpu, operation.reg));
  }
};
template <typename T>
struct PushImmediate {
  static void run(Cpu& cpu, const Operation& operation) {
    push<T>(cpu, static_cast<T>(operation.immediate));
  }
};
template <typename T>
struct PushMemory {
  static void run(Cpu& cpu, const Operation& operation) {
    push<T>(cpu, cpu.mmu.read<T>(operand_linear(cpu, operation, sizeof(T), AccessKind::kRead)));
  }
};
template <typename T>
struct PopRegister {
  static void run(Cpu& cpu, const Operation& operation) {
    const T value = pop<T>(cpu);
    set_register<T>(cpu, operation.reg, value);
  }
};
template <typename T>
struct PopMemory {
  static void run(Cpu& cpu, const Operation& operation) {
    const T value = peek<T>(cpu);
    const uint64_t old = cpu.gpr[x86::kRsp];
    // An address based on rSP is computed with the incremented value (SDM Vol. 2B POP).
    set_stack_pointer(cpu, old + sizeof(T));
    try {
      cpu.mmu.write<T>(operand_linear(cpu, operation, sizeof(T), AccessKind::kWrite), value);
    } catch (...) {
      cpu.gpr[x86::kRsp] = old;
      throw;
    }
  }
};

template <typename T>
struct PushAll {
  static void run(Cpu& cpu, const Operation&) {
    const uint64_t top = cpu.gpr[x86::kRsp];
    // Nothing may have been pushed when the last word faults, so the lowest comes first.
    for (uint8_t reg = 8; reg-- > 0;)
      write_memory<T>(cpu, x86::kSs, (top - (reg + 1u) * sizeof(T)) & cpu.stack_mask,
                      get_register<T>(cpu, reg));
    set_stack_pointer(cpu, top - 8 * sizeof(T));
  }
};
template <typename T>
struct PopAll {
  static void run(Cpu& cpu, const Operation&) {
    T values[8];
    for (unsigned i = 0; i < 8; ++i) values[i] = peek<T>(cpu, i * sizeof(T));
    for (uint8_t reg = 0; reg < 8; ++reg)
      if (reg != x86::kRsp) set_register<T>(cpu, reg, values[7u - reg]);
    set_stack_pointer(cpu, cpu.gpr[x86::kRsp] + 8 * sizeof(T));
  }
};

template <typename T>
struct Enter {
  static void run(Cpu& cpu, const Operation& operation) {
    const auto allocation = static_cast<uint16_t>(operation.immediate);
    const unsigned level = static_cast<unsigned>(operation.immediate >> 16) & 31u;
    const uint64_t mask = cpu.stack_mask;
    uint64_t stack = cpu.gpr[x86::kRsp];
    const auto push_at = [&](T value) {
      stack -= sizeof(T);
      write_memory<T>(cpu, x86::kSs, stack & mask, value);
    };
    push_at(get_register<T>(cpu, x86::kRbp));
    const auto frame = static_cast<T>(stack);
    if (level > 0) {
      uint64_t display = cpu.gpr[x86::kRbp];
      for (unsigned i = 1; i < level; ++i) {
        display -= sizeof(T);
        push_at(read_memory<T>(cpu, x86::kSs, display & mask));
      }
      push_at(frame);
    }
    stack -= allocation;
    // The new top of the stack must be writable (SDM Vol. 2A ENTER, #PF).
    cpu.mmu.probe_write(linear_address(cpu, x86::kSs, stack & mask, sizeof(T), AccessKind::kWrite),
                        sizeof(T));
    set_register<T>(cpu, x86::kRbp, frame);
    set_stack_pointer(cpu, stack);
  }
};

template <typename T>
struct Leave {
  static void run(Cpu& cpu, const Operation&) {
    const uint64_t frame = cpu.gpr[x86::kRbp];
    const T value = read_memory<T>(cpu, x86::kSs, frame & cpu.stack_mask);
    set_stack_pointer(cpu, frame + sizeof(T));
    set_register<T>(cpu, x86::kRbp, value);
  }
};

bool is_general_register(const decode::Instruction& instruction, unsigned operand) {
  const auto kind = ZydisRegisterGetClass(instruction.operands[operand].reg.value);
  return kind == ZYDIS_REGCLASS_GPR16 || kind == ZYDIS_REGCLASS_GPR32 ||
         kind == ZYDIS_REGCLASS_GPR64;
}

}  // namespace

Handler select_stack(const decode::Instruction& instruction, Operation& operation) {
  const unsigned size = operation.operand_size;
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_PUSH:
      if (is_immediate(instruction, 0)) return by_wide_size<PushImmediate>(size);
      if (is_memory(instruction, 0)) return by_wide_size<PushMemory>(size);
      if (!is_general_register(instruction, 0)) return nullptr;
      operation.reg = register_of(instruction, 0);
      return by_wide_size<PushRegister>(size);
    case ZYDIS_MNEMONIC_POP:
      if (is_memory(instruction, 0)) return by_wide_size<PopMemory>(size);
      if (!is_general_register(instruction, 0)) return nullptr;
      operation.reg = register_of(instruction, 0);
      return by_wide_size<PopRegister>(size);
    case ZYDIS_MNEMONIC_PUSHA:
      return PushAll<uint16_t>::run;
    case ZYDIS_MNEMONIC_PUSHAD:
      return PushAll<uint32_t>::run;
    case ZYDIS_MNEMONIC_POPA:
      return PopAll<uint16_t>::run;
    case ZYDIS_MNEMONIC_POPAD:
      return PopAll<uint32_t>::run;
    case ZYDIS_MNEMONIC_ENTER:
      return by_wide_size<Enter>(size);
    case ZYDIS_MNEMONIC_LEAVE:
      return by_wide_size<Leave>(size);
    default:
      return nullptr;
  }
}

}  // namespace limen::soft::interpret
