// MUL, IMUL, DIV, IDIV (SDM Vol. 2A, 2B).
#include "soft/interpret/integer/alu.h"
#include "soft/interpret/integer/forms.h"

namespace limen::soft::interpret {
namespace {

template <typename T>
T read_rm(Cpu& cpu, const Operation& operation) {
  if (operation.flags & Operation::kMemory)
    return cpu.mmu.read<T>(operand_linear(cpu, operation, sizeof(T), AccessKind::kRead));
  return get_register<T>(cpu, operation.rm);
}

/// AX, DX:AX, EDX:EAX or RDX:RAX.
template <typename T>
void set_wide_result(Cpu& cpu, T low, T high) {
  if constexpr (sizeof(T) == 1) {
    set_register<uint16_t>(cpu, x86::kRax, static_cast<uint16_t>(low | high << 8));
  } else {
    set_register<T>(cpu, x86::kRax, low);
    set_register<T>(cpu, x86::kRdx, high);
  }
}

// Flags that the manual calls undefined are left as they were by some processors, so the guest's
// are there first.
#define LIMEN_WIDE_MULTIPLY(Name, insn)                                                    \
  template <typename T>                                                                    \
  struct Name {                                                                            \
    static void run(Cpu& cpu, const Operation& operation) {                                \
      const T source = read_rm<T>(cpu, operation);                                         \
      const auto factor = get_register<T>(cpu, x86::kRax);                                 \
      T low = 0;                                                                           \
      T high = 0;                                                                          \
      uint64_t rax = flags_in_ax(cpu);                                                     \
      uint32_t flags;                                                                      \
      bool overflow;                                                                       \
      if constexpr (sizeof(T) == 1) {                                                      \
        uint32_t out;                                                                      \
        asm("add $127, %%al\n\tsahf\n\tmov %k[l], %%eax\n\t" insn                          \
            " %[s]\n\tmov %%eax, %[o]\n\tlahf\n\tmovzbl %%ah, %[f]"                        \
            : "+&a"(rax), [o] "=&r"(out), [f] "=&Q"(flags), "=@cco"(overflow)              \
            : [s] "r"(source), [l] "r"(uint32_t{factor}));                                 \
        low = static_cast<T>(out);                                                         \
        high = static_cast<T>(out >> 8);                                                   \
      } else {                                                                             \
        uint64_t out;                                                                      \
        asm("add $127, %%al\n\tsahf\n\tmov %[l], %%rax\n\t" insn                           \
            " %[s]\n\tmov %%rax, %[o]\n\tlahf\n\tmovzbl %%ah, %[f]"                        \
            : "+&a"(rax), "=&d"(high), [o] "=&r"(out), [f] "=&Q"(flags), "=@cco"(overflow) \
            : [s] "r"(source), [l] "r"(uint64_t{factor}));                                 \
        low = static_cast<T>(out);                                                         \
      }                                                                                    \
      set_wide_result<T>(cpu, low, high);                                                  \
      store_flags(cpu, flags << 8 | overflow);                                             \
    }                                                                                      \
  };
LIMEN_WIDE_MULTIPLY(Multiply, "mul")
LIMEN_WIDE_MULTIPLY(SignedMultiply, "imul")
#undef LIMEN_WIDE_MULTIPLY

template <typename T>
void multiply_into(Cpu& cpu, uint8_t reg, T left, T right) {
  uint32_t ax = flags_in_ax(cpu);
  asm("add $127, %%al\n\tsahf\n\timul %[s], %[d]\n\tlahf\n\tseto %%al"
      : [d] "+&r"(left), "+&a"(ax)
      : [s] "r"(right)
      : "cc");
  set_register<T>(cpu, reg, left);
  store_flags(cpu, ax);
}

template <typename T>
struct MultiplyTwo {
  static void run(Cpu& cpu, const Operation& operation) {
    const T source = read_rm<T>(cpu, operation);
    multiply_into<T>(cpu, operation.reg, get_register<T>(cpu, operation.reg), source);
  }
};

template <typename T>
struct MultiplyThree {
  static void run(Cpu& cpu, const Operation& operation) {
    multiply_into<T>(cpu, operation.reg, read_rm<T>(cpu, operation),
                     static_cast<T>(operation.immediate));
  }
};

[[noreturn]] void divide_error() { Cpu::raise(x86::Exception::plain(x86::Vector::kDivideError)); }

template <typename T>
struct Wide;
template <>
struct Wide<uint8_t> {
  using Unsigned = uint16_t;
  using Signed = int16_t;
};
template <>
struct Wide<uint16_t> {
  using Unsigned = uint32_t;
  using Signed = int32_t;
};
template <>
struct Wide<uint32_t> {
  using Unsigned = uint64_t;
  using Signed = int64_t;
};
template <>
struct Wide<uint64_t> {
  using Unsigned = unsigned __int128;
  using Signed = __int128;
};

template <typename T>
typename Wide<T>::Unsigned dividend(const Cpu& cpu) {
  using U = typename Wide<T>::Unsigned;
  if constexpr (sizeof(T) == 1) return get_register<uint16_t>(cpu, x86::kRax);
  return static_cast<U>(static_cast<U>(get_register<T>(cpu, x86::kRdx)) << (8 * sizeof(T)) |
                        get_register<T>(cpu, x86::kRax));
}

template <typename T>
struct Divide {
  static void run(Cpu& cpu, const Operation& operation) {
    using U = typename Wide<T>::Unsigned;
    const T source = read_rm<T>(cpu, operation);
    const U value = dividend<T>(cpu);
    if (source == 0 || static_cast<T>(value >> (8 * sizeof(T))) >= source) divide_error();
    set_wide_result<T>(cpu, static_cast<T>(value / source), static_cast<T>(value % source));
  }
};

template <typename T>
struct SignedDivide {
  static void run(Cpu& cpu, const Operation& operation) {
    using S = typename Wide<T>::Signed;
    using Narrow = std::make_signed_t<T>;
    const auto source = static_cast<S>(static_cast<Narrow>(read_rm<T>(cpu, operation)));
    const auto value = static_cast<S>(dividend<T>(cpu));
    constexpr auto kLowest = static_cast<S>(typename Wide<T>::Unsigned{1} << (16 * sizeof(T) - 1));
    if (source == 0 || (source == -1 && value == kLowest)) divide_error();
    const auto quotient = static_cast<S>(value / source);
    if (static_cast<S>(static_cast<Narrow>(quotient)) != quotient) divide_error();
    set_wide_result<T>(cpu, static_cast<T>(quotient), static_cast<T>(value % source));
  }
};

}  // namespace

Handler select_multiply(const decode::Instruction& instruction, Operation& operation) {
  const unsigned size = operation.operand_size;
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_MUL:
      return by_size<Multiply>(size);
    case ZYDIS_MNEMONIC_DIV:
      return by_size<Divide>(size);
    case ZYDIS_MNEMONIC_IDIV:
      return by_size<SignedDivide>(size);
    case ZYDIS_MNEMONIC_IMUL:
      if (instruction.raw.operand_count_visible == 1) return by_size<SignedMultiply>(size);
      if (instruction.raw.operand_count_visible == 2) return by_wide_size<MultiplyTwo>(size);
      return by_wide_size<MultiplyThree>(size);
    default:
      return nullptr;
  }
}

}  // namespace limen::soft::interpret
