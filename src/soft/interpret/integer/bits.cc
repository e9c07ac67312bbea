// BT, BTS, BTR, BTC, BSF, BSR (SDM Vol. 2A). A register bit offset on memory reaches beyond the
// operand (SDM Vol. 1 3.1.1.9), which is why these do not run on the host as they are.
#include "soft/interpret/integer/alu.h"
#include "soft/interpret/integer/forms.h"

namespace limen::soft::interpret {
namespace {

enum class BitChange : uint8_t { kNone, kSet, kReset, kComplement };

template <typename T, BitChange kChange>
T changed(T value, T mask) {
  switch (kChange) {
    case BitChange::kSet:
      return static_cast<T>(value | mask);
    case BitChange::kReset:
      return static_cast<T>(value & static_cast<T>(~mask));
    case BitChange::kComplement:
      return static_cast<T>(value ^ mask);
    case BitChange::kNone:
      break;
  }
  return value;
}

/// Only CF is defined afterwards; processors leave the others as they were.
void set_carry(Cpu& cpu, bool carry) {
  cpu.flags_low = static_cast<uint8_t>((cpu.flags_low & ~1u) | static_cast<unsigned>(carry));
}

template <BitChange kChange>
struct BitTest {
  template <typename T>
  struct Register {
    static void run(Cpu& cpu, const Operation& operation) {
      constexpr T kWidthMask = sizeof(T) * 8 - 1;
      const T offset = operation.flags & kImmediateOffset ? static_cast<T>(operation.immediate)
                                                          : get_register<T>(cpu, operation.reg);
      const T mask = static_cast<T>(T{1} << (offset & kWidthMask));
      const T value = get_register<T>(cpu, operation.rm);
      if constexpr (kChange != BitChange::kNone)
        set_register<T>(cpu, operation.rm, changed<T, kChange>(value, mask));
      set_carry(cpu, (value & mask) != 0);
    }
  };

  template <typename T>
  struct Memory {
    static void run(Cpu& cpu, const Operation& operation) {
      constexpr T kWidthMask = sizeof(T) * 8 - 1;
      constexpr unsigned kShift = sizeof(T) == 2 ? 4 : sizeof(T) == 4 ? 5 : 6;
      uint64_t address = effective_address(cpu, operation);
      T mask;
      if (operation.flags & kImmediateOffset) {
        mask = static_cast<T>(T{1} << (operation.immediate & kWidthMask));
      } else {
        const auto offset = static_cast<int64_t>(
            static_cast<std::make_signed_t<T>>(get_register<T>(cpu, operation.reg)));
        mask = static_cast<T>(T{1} << (static_cast<uint64_t>(offset) & kWidthMask));
        address += static_cast<uint64_t>((offset >> kShift) * static_cast<int64_t>(sizeof(T)));
        if (operation.address_size == 4) address = static_cast<uint32_t>(address);
        if (operation.address_size == 2) address = static_cast<uint16_t>(address);
      }
      if constexpr (kChange == BitChange::kNone) {
        set_carry(cpu, (read_memory<T>(cpu, operation.segment, address) & mask) != 0);
      } else {
        const uint64_t linear =
            linear_address(cpu, operation.segment, address, sizeof(T), AccessKind::kWrite);
        bool carry = false;
        const auto change = [&](T& value) {
          carry = (value & mask) != 0;
          value = changed<T, kChange>(value, mask);
        };
        const auto locked = [&](T* host) {
          T old;
          if constexpr (kChange == BitChange::kSet)
            old = __atomic_fetch_or(host, mask, __ATOMIC_SEQ_CST);
          else if constexpr (kChange == BitChange::kReset)
            old = __atomic_fetch_and(host, static_cast<T>(~mask), __ATOMIC_SEQ_CST);
          else
            old = __atomic_fetch_xor(host, mask, __ATOMIC_SEQ_CST);
          carry = (old & mask) != 0;
        };
        if (operation.flags & Operation::kLock)
          modify_memory_locked<T>(cpu, linear, change, locked);
        else
          modify_memory<T>(cpu, linear, change);
        set_carry(cpu, carry);
      }
    }
  };

  static Handler select(const decode::Instruction& instruction, Operation& operation) {
    if (is_immediate(instruction, 1)) operation.flags |= kImmediateOffset;
    return is_memory(instruction, 0) ? by_wide_size<Memory>(operation.operand_size)
                                     : by_wide_size<Register>(operation.operand_size);
  }

  /// The bit offset is the immediate.
  static constexpr uint8_t kImmediateOffset = Operation::kClassFlag;
};

#define LIMEN_BIT_SCAN(Name, insn)                                                            \
  template <typename T>                                                                       \
  struct Name {                                                                               \
    static void run(Cpu& cpu, const Operation& operation) {                                   \
      const T source =                                                                        \
          operation.flags & Operation::kMemory                                                \
              ? cpu.mmu.read<T>(operand_linear(cpu, operation, sizeof(T), AccessKind::kRead)) \
              : get_register<T>(cpu, operation.rm);                                           \
      /* A source of 0 leaves the destination as it is: AMD's manual says so, Intel's         \
         processors do so. In 64-bit mode a 32-bit destination then keeps its upper half. */  \
      uint64_t value = cpu.gpr[operation.reg];                                                \
      uint32_t ax = flags_in_ax(cpu);                                                         \
      T low = static_cast<T>(value);                                                          \
      asm("add $127, %%al\n\tsahf\n\t" insn " %[s], %[d]\n\tlahf\n\tseto %%al"                \
          : [d] "+&r"(low), "+&a"(ax)                                                         \
          : [s] "r"(source)                                                                   \
          : "cc");                                                                            \
      if (source != 0) set_register<T>(cpu, operation.reg, low);                              \
      store_flags(cpu, ax);                                                                   \
    }                                                                                         \
  };
LIMEN_BIT_SCAN(ScanForward, "bsf")
LIMEN_BIT_SCAN(ScanReverse, "bsr")
#undef LIMEN_BIT_SCAN

}  // namespace

Handler select_bits(const decode::Instruction& instruction, Operation& operation) {
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_BT:
      return BitTest<BitChange::kNone>::select(instruction, operation);
    case ZYDIS_MNEMONIC_BTS:
      return BitTest<BitChange::kSet>::select(instruction, operation);
    case ZYDIS_MNEMONIC_BTR:
      return BitTest<BitChange::kReset>::select(instruction, operation);
    case ZYDIS_MNEMONIC_BTC:
      return BitTest<BitChange::kComplement>::select(instruction, operation);
    case ZYDIS_MNEMONIC_BSF:
      return by_wide_size<ScanForward>(operation.operand_size);
    case ZYDIS_MNEMONIC_BSR:
      return by_wide_size<ScanReverse>(operation.operand_size);
    default:
      return nullptr;
  }
}

}  // namespace limen::soft::interpret
