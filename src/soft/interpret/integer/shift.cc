// Shifts, rotates and double shifts (SDM Vol. 2B SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD, SHRD).
#include "soft/interpret/integer/alu.h"
#include "soft/interpret/integer/forms.h"

namespace limen::soft::interpret {
namespace {

/// Where the count comes from: CL, or the immediate (which holds 1 for the short forms).
enum class Count : uint8_t { kCl, kImmediate };

template <Count kCount, typename T>
uint8_t masked_count(const Cpu& cpu, const Operation& operation) {
  const uint64_t count = kCount == Count::kCl ? cpu.gpr[x86::kRcx] : operation.immediate;
  return static_cast<uint8_t>(count & (sizeof(T) == 8 ? 63 : 31));
}

template <typename Op, Count kCount>
struct Shift {
  template <typename T>
  struct Register {
    static void run(Cpu& cpu, const Operation& operation) {
      const uint8_t count = masked_count<kCount, T>(cpu, operation);
      T value = get_register<T>(cpu, operation.reg);
      if (count != 0) Op::run(cpu, value, count);
      set_register<T>(cpu, operation.reg, value);
    }
  };
  template <typename T>
  struct Memory {
    static void run(Cpu& cpu, const Operation& operation) {
      const uint8_t count = masked_count<kCount, T>(cpu, operation);
      modify_memory<T>(cpu, operand_linear(cpu, operation, sizeof(T), AccessKind::kWrite),
                       [&](T& value) {
                         if (count != 0) Op::run(cpu, value, count);
                       });
    }
  };
};

template <typename Op>
Handler select_single(const decode::Instruction& instruction, Operation& operation) {
  const unsigned size = operation.operand_size;
  const bool by_cl = is_register(instruction, 1);
  if (is_memory(instruction, 0))
    return by_cl ? by_size<Shift<Op, Count::kCl>::template Memory>(size)
                 : by_size<Shift<Op, Count::kImmediate>::template Memory>(size);
  operation.reg = register_of(instruction, 0);
  return by_cl ? by_size<Shift<Op, Count::kCl>::template Register>(size)
               : by_size<Shift<Op, Count::kImmediate>::template Register>(size);
}

#define LIMEN_DOUBLE_SHIFT(Name, insn)                                               \
  struct Name {                                                                      \
    template <typename T>                                                            \
    static void run(Cpu& cpu, T& destination, T source, uint8_t count) {             \
      uint32_t ax = flags_in_ax(cpu);                                                \
      asm("add $127, %%al\n\tsahf\n\t" insn " %%cl, %[s], %[d]\n\tlahf\n\tseto %%al" \
          : [d] "+&r"(destination), "+&a"(ax)                                        \
          : [s] "r"(source), "c"(count)                                              \
          : "cc");                                                                   \
      store_flags(cpu, ax);                                                          \
    }                                                                                \
  };
LIMEN_DOUBLE_SHIFT(DoubleLeft, "shld")
LIMEN_DOUBLE_SHIFT(DoubleRight, "shrd")
#undef LIMEN_DOUBLE_SHIFT

template <typename Op, Count kCount>
struct DoubleShift {
  template <typename T>
  struct Register {
    static void run(Cpu& cpu, const Operation& operation) {
      const uint8_t count = masked_count<kCount, T>(cpu, operation);
      T value = get_register<T>(cpu, operation.rm);
      if (count != 0) Op::run(cpu, value, get_register<T>(cpu, operation.reg), count);
      set_register<T>(cpu, operation.rm, value);
    }
  };
  template <typename T>
  struct Memory {
    static void run(Cpu& cpu, const Operation& operation) {
      const uint8_t count = masked_count<kCount, T>(cpu, operation);
      modify_memory<T>(cpu, operand_linear(cpu, operation, sizeof(T), AccessKind::kWrite),
                       [&](T& value) {
                         if (count != 0)
                           Op::run(cpu, value, get_register<T>(cpu, operation.reg), count);
                       });
    }
  };
};

template <typename Op>
Handler select_double(const decode::Instruction& instruction, Operation& operation) {
  const unsigned size = operation.operand_size;
  const bool by_cl = is_register(instruction, 2);
  if (is_memory(instruction, 0))
    return by_cl ? by_wide_size<DoubleShift<Op, Count::kCl>::template Memory>(size)
                 : by_wide_size<DoubleShift<Op, Count::kImmediate>::template Memory>(size);
  return by_cl ? by_wide_size<DoubleShift<Op, Count::kCl>::template Register>(size)
               : by_wide_size<DoubleShift<Op, Count::kImmediate>::template Register>(size);
}

}  // namespace

Handler select_shift(const decode::Instruction& instruction, Operation& operation) {
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_SHL:
      return select_single<ShiftLeft>(instruction, operation);
    case ZYDIS_MNEMONIC_SHR:
      return select_single<ShiftRight>(instruction, operation);
    case ZYDIS_MNEMONIC_SAR:
      return select_single<ShiftArithmeticRight>(instruction, operation);
    case ZYDIS_MNEMONIC_ROL:
      return select_single<RotateLeft>(instruction, operation);
    case ZYDIS_MNEMONIC_ROR:
      return select_single<RotateRight>(instruction, operation);
    case ZYDIS_MNEMONIC_RCL:
      return select_single<RotateCarryLeft>(instruction, operation);
    case ZYDIS_MNEMONIC_RCR:
      return select_single<RotateCarryRight>(instruction, operation);
    case ZYDIS_MNEMONIC_SHLD:
      return select_double<DoubleLeft>(instruction, operation);
    case ZYDIS_MNEMONIC_SHRD:
      return select_double<DoubleRight>(instruction, operation);
    default:
      return nullptr;
  }
}

}  // namespace limen::soft::interpret
