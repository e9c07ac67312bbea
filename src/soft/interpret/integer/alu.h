// Integer arithmetic by the host's own instructions, so that every flag, the undefined ones too, is
// what the processor gives. LAHF and SETO bring the flags out, SAHF and BT take them in.
#pragma once

#include <cstdint>
#include <cstring>

#include "soft/cpu.h"

namespace limen::soft::interpret {

/// Takes AX as LAHF and SETO AL left it; the two bytes stand side by side in Cpu, so this is one
/// store.
inline void store_flags(Cpu& cpu, uint32_t ax) {
  cpu.flags_overflow = static_cast<uint8_t>(ax);
  cpu.flags_low = static_cast<uint8_t>(ax >> 8);
}
/// The reverse: what ADD AL, 127 and SAHF load.
inline uint32_t flags_in_ax(const Cpu& cpu) {
  return static_cast<uint32_t>(cpu.flags_low) << 8 | cpu.flags_overflow;
}

// An operation `insn destination, source` that sets all arithmetic flags.
// run(): registers. run_locked(): the destination is memory that other processors see.
#define LIMEN_BINARY_OPERATION(Name, insn, writes)                   \
  struct Name {                                                      \
    static constexpr bool kWrites = writes;                          \
    template <typename T>                                            \
    static void run(Cpu& cpu, T& destination, T source) {            \
      uint32_t ax;                                                   \
      asm(insn " %[s], %[d]\n\tlahf\n\tseto %%al"                    \
          : [d] "+r"(destination), "=&a"(ax)                         \
          : [s] "r"(source)                                          \
          : "cc");                                                   \
      store_flags(cpu, ax);                                          \
    }                                                                \
    template <typename T>                                            \
    static void run_locked(Cpu& cpu, T* destination, T source) {     \
      if constexpr (writes) {                                        \
        uint32_t ax;                                                 \
        asm volatile("lock " insn " %[s], %[d]\n\tlahf\n\tseto %%al" \
                     : [d] "+m"(*destination), "=&a"(ax)             \
                     : [s] "r"(source)                               \
                     : "cc", "memory");                              \
        store_flags(cpu, ax);                                        \
      }                                                              \
    }                                                                \
  };

// The same for ADC and SBB, which take CF in.
#define LIMEN_CARRY_OPERATION(Name, insn)                                         \
  struct Name {                                                                   \
    static constexpr bool kWrites = true;                                         \
    template <typename T>                                                         \
    static void run(Cpu& cpu, T& destination, T source) {                         \
      uint32_t ax;                                                                \
      const uint32_t carry = cpu.flags_low;                                       \
      asm("bt $0, %[c]\n\t" insn " %[s], %[d]\n\tlahf\n\tseto %%al"               \
          : [d] "+&r"(destination), "=&a"(ax)                                     \
          : [s] "r"(source), [c] "r"(carry)                                       \
          : "cc");                                                                \
      store_flags(cpu, ax);                                                       \
    }                                                                             \
    template <typename T>                                                         \
    static void run_locked(Cpu& cpu, T* destination, T source) {                  \
      uint32_t ax;                                                                \
      const uint32_t carry = cpu.flags_low;                                       \
      asm volatile("bt $0, %[c]\n\tlock " insn " %[s], %[d]\n\tlahf\n\tseto %%al" \
                   : [d] "+m"(*destination), "=&a"(ax)                            \
                   : [s] "r"(source), [c] "r"(carry)                              \
                   : "cc", "memory");                                             \
      store_flags(cpu, ax);                                                       \
    }                                                                             \
  };

LIMEN_BINARY_OPERATION(Add, "add", true)
LIMEN_BINARY_OPERATION(Or, "or", true)
LIMEN_BINARY_OPERATION(And, "and", true)
LIMEN_BINARY_OPERATION(Sub, "sub", true)
LIMEN_BINARY_OPERATION(Xor, "xor", true)
LIMEN_BINARY_OPERATION(Compare, "cmp", false)
LIMEN_BINARY_OPERATION(Test, "test", false)
LIMEN_CARRY_OPERATION(AddWithCarry, "adc")
LIMEN_CARRY_OPERATION(SubtractWithBorrow, "sbb")

// An operation with one operand that keeps some flags: SAHF brings them in. INC and DEC keep CF,
// NOT keeps all, NEG none. OF is written by INC, DEC and NEG; NOT keeps it by kFlags = false.
#define LIMEN_UNARY_OPERATION(Name, insn, flags)                           \
  struct Name {                                                            \
    template <typename T>                                                  \
    static void run(Cpu& cpu, T& destination) {                            \
      uint32_t ax = static_cast<uint32_t>(cpu.flags_low) << 8;             \
      asm("sahf\n\t" insn " %[d]\n\tlahf\n\tseto %%al"                     \
          : [d] "+&r"(destination), "+&a"(ax)                              \
          :                                                                \
          : "cc");                                                         \
      if constexpr (flags) store_flags(cpu, ax);                           \
    }                                                                      \
    template <typename T>                                                  \
    static void run_locked(Cpu& cpu, T* destination) {                     \
      uint32_t ax = static_cast<uint32_t>(cpu.flags_low) << 8;             \
      if constexpr (sizeof(T) == 1)                                        \
        asm volatile("sahf\n\tlock " insn "b %[d]\n\tlahf\n\tseto %%al"    \
                     : [d] "+m"(*destination), "+&a"(ax)::"cc", "memory"); \
      else if constexpr (sizeof(T) == 2)                                   \
        asm volatile("sahf\n\tlock " insn "w %[d]\n\tlahf\n\tseto %%al"    \
                     : [d] "+m"(*destination), "+&a"(ax)::"cc", "memory"); \
      else if constexpr (sizeof(T) == 4)                                   \
        asm volatile("sahf\n\tlock " insn "l %[d]\n\tlahf\n\tseto %%al"    \
                     : [d] "+m"(*destination), "+&a"(ax)::"cc", "memory"); \
      else                                                                 \
        asm volatile("sahf\n\tlock " insn "q %[d]\n\tlahf\n\tseto %%al"    \
                     : [d] "+m"(*destination), "+&a"(ax)::"cc", "memory"); \
      if constexpr (flags) store_flags(cpu, ax);                           \
    }                                                                      \
  };

LIMEN_UNARY_OPERATION(Increment, "inc", true)
LIMEN_UNARY_OPERATION(Decrement, "dec", true)
LIMEN_UNARY_OPERATION(Negate, "neg", true)
LIMEN_UNARY_OPERATION(Not, "not", false)

// Shifts and rotates by a count that the caller has masked and found not to be 0. All flags go in,
// so that the ones a rotate keeps stay.
#define LIMEN_SHIFT_OPERATION(Name, insn)                                      \
  struct Name {                                                                \
    template <typename T>                                                      \
    static void run(Cpu& cpu, T& destination, uint8_t count) {                 \
      uint32_t ax = flags_in_ax(cpu);                                          \
      asm("add $127, %%al\n\tsahf\n\t" insn " %%cl, %[d]\n\tlahf\n\tseto %%al" \
          : [d] "+&r"(destination), "+&a"(ax)                                  \
          : "c"(count)                                                         \
          : "cc");                                                             \
      store_flags(cpu, ax);                                                    \
    }                                                                          \
  };

LIMEN_SHIFT_OPERATION(ShiftLeft, "shl")
LIMEN_SHIFT_OPERATION(ShiftRight, "shr")
LIMEN_SHIFT_OPERATION(ShiftArithmeticRight, "sar")
LIMEN_SHIFT_OPERATION(RotateLeft, "rol")
LIMEN_SHIFT_OPERATION(RotateRight, "ror")
LIMEN_SHIFT_OPERATION(RotateCarryLeft, "rcl")
LIMEN_SHIFT_OPERATION(RotateCarryRight, "rcr")

#undef LIMEN_BINARY_OPERATION
#undef LIMEN_CARRY_OPERATION
#undef LIMEN_UNARY_OPERATION
#undef LIMEN_SHIFT_OPERATION

}  // namespace limen::soft::interpret
