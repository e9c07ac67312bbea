// Near JMP, CALL, RET, Jcc, JrCXZ, LOOPcc. Far forms are in system/.
#include "soft/interpret/integer/condition.h"
#include "soft/interpret/integer/forms.h"
#include "soft/interpret/stack.h"

namespace limen::soft::interpret {
namespace {

/// Goes to `target`, cut to the operand size, after the checks of a near transfer: canonical in
/// 64-bit mode, inside the code segment otherwise (SDM Vol. 2A JMP).
template <typename T>
uint64_t checked_target(const Cpu& cpu, uint64_t target) {
  target = static_cast<T>(target);
  if (cpu.mode == decode::CodeMode::k64) {
    if (!is_canonical(target)) [[unlikely]]
      Cpu::raise(x86::Exception::general_protection());
  } else if (target > cpu.system.segments[x86::kCs].limit) [[unlikely]] {
    Cpu::raise(x86::Exception::general_protection());
  }
  return target;
}

template <typename T>
void jump_relative(Cpu& cpu, const Operation& operation) {
  cpu.gpr[kNextRip] = checked_target<T>(cpu, cpu.gpr[kNextRip] + operation.immediate);
}

template <typename T>
T indirect_target(Cpu& cpu, const Operation& operation) {
  if (operation.flags & Operation::kMemory)
    return cpu.mmu.read<T>(operand_linear(cpu, operation, sizeof(T), AccessKind::kRead));
  return get_register<T>(cpu, operation.rm);
}

template <typename T>
struct JumpRelative {
  static void run(Cpu& cpu, const Operation& operation) { jump_relative<T>(cpu, operation); }
};
template <typename T>
struct JumpIndirect {
  static void run(Cpu& cpu, const Operation& operation) {
    cpu.gpr[kNextRip] = checked_target<T>(cpu, indirect_target<T>(cpu, operation));
  }
};

/// The return address is stored before the target is looked at, as processors do it: a stack that
/// faults goes before a target that does not exist.
template <typename T>
void call(Cpu& cpu, uint64_t target) {
  const uint64_t offset = (cpu.gpr[x86::kRsp] - sizeof(T)) & cpu.stack_mask;
  write_memory<T>(cpu, x86::kSs, offset, static_cast<T>(cpu.gpr[kNextRip]));
  cpu.gpr[kNextRip] = checked_target<T>(cpu, target);
  set_stack_pointer(cpu, offset);
}

template <typename T>
struct CallRelative {
  static void run(Cpu& cpu, const Operation& operation) {
    call<T>(cpu, cpu.gpr[kNextRip] + operation.immediate);
  }
};
template <typename T>
struct CallIndirect {
  static void run(Cpu& cpu, const Operation& operation) {
    call<T>(cpu, indirect_target<T>(cpu, operation));
  }
};

template <typename T>
struct Return {
  static void run(Cpu& cpu, const Operation& operation) {
    cpu.gpr[kNextRip] = checked_target<T>(cpu, peek<T>(cpu));
    set_stack_pointer(cpu,
                      cpu.gpr[x86::kRsp] + sizeof(T) + static_cast<uint16_t>(operation.immediate));
  }
};

template <unsigned kCondition>
struct Conditional {
  template <typename T>
  struct Jump {
    static void run(Cpu& cpu, const Operation& operation) {
      if (holds<kCondition>(cpu)) jump_relative<T>(cpu, operation);
    }
  };
};

/// rCX as wide as the address size says.
uint64_t counter(const Cpu& cpu, const Operation& operation) {
  const uint64_t rcx = cpu.gpr[x86::kRcx];
  if (operation.address_size == 8) return rcx;
  return operation.address_size == 4 ? static_cast<uint32_t>(rcx) : static_cast<uint16_t>(rcx);
}

template <typename T>
struct JumpCounterZero {
  static void run(Cpu& cpu, const Operation& operation) {
    if (counter(cpu, operation) == 0) jump_relative<T>(cpu, operation);
  }
};

enum class LoopKind : uint8_t { kAlways, kWhileZero, kWhileNotZero };

template <LoopKind kKind>
struct Loop {
  template <typename T>
  struct Jump {
    static void run(Cpu& cpu, const Operation& operation) {
      const uint64_t left = counter(cpu, operation) - 1;
      const bool zero = (cpu.flags_low & x86::rflags::kZero) != 0;
      const bool more = operation.address_size == 8   ? left != 0
                        : operation.address_size == 4 ? static_cast<uint32_t>(left) != 0
                                                      : static_cast<uint16_t>(left) != 0;
      if (more && (kKind == LoopKind::kAlways || zero == (kKind == LoopKind::kWhileZero)))
        jump_relative<T>(cpu, operation);
      switch (operation.address_size) {
        case 8:
          cpu.gpr[x86::kRcx] = left;
          break;
        case 4:
          set_register<uint32_t>(cpu, x86::kRcx, static_cast<uint32_t>(left));
          break;
        default:
          set_register<uint16_t>(cpu, x86::kRcx, static_cast<uint16_t>(left));
          break;
      }
    }
  };
};

bool is_near(const decode::Instruction& instruction) {
  const auto& operand = instruction.operands[0];
  return instruction.raw.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR &&
         operand.type != ZYDIS_OPERAND_TYPE_POINTER;
}

}  // namespace

Handler select_branch(const decode::Instruction& instruction, Operation& operation) {
  const unsigned size = operation.operand_size;
  const bool relative = is_immediate(instruction, 0);
  Handler handler = nullptr;
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_JMP:
      if (!is_near(instruction)) return nullptr;
      handler = relative ? by_wide_size<JumpRelative>(size) : by_wide_size<JumpIndirect>(size);
      break;
    case ZYDIS_MNEMONIC_CALL:
      if (!is_near(instruction)) return nullptr;
      handler = relative ? by_wide_size<CallRelative>(size) : by_wide_size<CallIndirect>(size);
      break;
    case ZYDIS_MNEMONIC_RET:
      if (instruction.raw.opcode != 0xC2 && instruction.raw.opcode != 0xC3) return nullptr;
      handler = by_wide_size<Return>(size);
      break;
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
      handler = by_wide_size<JumpCounterZero>(size);
      break;
    case ZYDIS_MNEMONIC_LOOP:
      handler = by_wide_size<Loop<LoopKind::kAlways>::Jump>(size);
      break;
    case ZYDIS_MNEMONIC_LOOPE:
      handler = by_wide_size<Loop<LoopKind::kWhileZero>::Jump>(size);
      break;
    case ZYDIS_MNEMONIC_LOOPNE:
      handler = by_wide_size<Loop<LoopKind::kWhileNotZero>::Jump>(size);
      break;
    default:
      // 70-7F and 0F 80-8F.
      if (instruction.raw.meta.category != ZYDIS_CATEGORY_COND_BR ||
          (instruction.raw.opcode & 0xF0) !=
              (instruction.raw.opcode_map == ZYDIS_OPCODE_MAP_0F ? 0x80 : 0x70))
        return nullptr;
      handler = with_condition(instruction.raw.opcode & 15u, [&]<unsigned kCondition>() {
        return by_wide_size<Conditional<kCondition>::template Jump>(size);
      });
      break;
  }
  operation.flags |= Operation::kEndsBlock;
  return handler;
}

}  // namespace limen::soft::interpret
