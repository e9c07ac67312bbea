// XCHG, XADD, CMPXCHG, CMPXCHG8B, CMPXCHG16B (SDM Vol. 2A, 2C).
#include "soft/interpret/integer/alu.h"
#include "soft/interpret/integer/forms.h"

namespace limen::soft::interpret {
namespace {

template <typename T>
struct ExchangeRegisters {
  static void run(Cpu& cpu, const Operation& operation) {
    const T first = get_register<T>(cpu, operation.reg);
    const T second = get_register<T>(cpu, operation.rm);
    set_register<T>(cpu, operation.reg, second);
    set_register<T>(cpu, operation.rm, first);
  }
};

/// XCHG with memory is locked with or without the prefix.
template <typename T>
struct ExchangeMemory {
  static void run(Cpu& cpu, const Operation& operation) {
    const T source = get_register<T>(cpu, operation.reg);
    T old = 0;
    modify_memory_locked<T>(
        cpu, operand_linear(cpu, operation, sizeof(T), AccessKind::kWrite),
        [&](T& value) { old = std::exchange(value, source); },
        [&](T* host) { old = __atomic_exchange_n(host, source, __ATOMIC_SEQ_CST); });
    set_register<T>(cpu, operation.reg, old);
  }
};

template <typename T>
struct ExchangeAdd {
  static void in_registers(Cpu& cpu, const Operation& operation) {
    const T source = get_register<T>(cpu, operation.reg);
    const T old = get_register<T>(cpu, operation.rm);
    T sum = old;
    Add::run(cpu, sum, source);
    set_register<T>(cpu, operation.reg, old);
    set_register<T>(cpu, operation.rm, sum);
  }
  static void run(Cpu& cpu, const Operation& operation) {
    if (!(operation.flags & Operation::kMemory)) return in_registers(cpu, operation);
    const T source = get_register<T>(cpu, operation.reg);
    T old = 0;
    modify_memory_locked<T>(
        cpu, operand_linear(cpu, operation, sizeof(T), AccessKind::kWrite),
        [&](T& value) {
          old = value;
          value = static_cast<T>(value + source);
        },
        [&](T* host) { old = __atomic_fetch_add(host, source, __ATOMIC_SEQ_CST); });
    T sum = old;
    Add::run(cpu, sum, source);
    set_register<T>(cpu, operation.reg, old);
  }
};

template <typename T>
struct CompareExchange {
  static void run(Cpu& cpu, const Operation& operation) {
    T accumulator = get_register<T>(cpu, x86::kRax);
    const T source = get_register<T>(cpu, operation.reg);
    T old = accumulator;
    if (operation.flags & Operation::kMemory) {
      // The destination is written in either case, so it must be writable.
      modify_memory_locked<T>(
          cpu, operand_linear(cpu, operation, sizeof(T), AccessKind::kWrite),
          [&](T& value) {
            old = value;
            if (value == accumulator) value = source;
          },
          [&](T* host) {
            __atomic_compare_exchange_n(host, &old, source, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST);
          });
    } else {
      old = get_register<T>(cpu, operation.rm);
      if (old == accumulator) set_register<T>(cpu, operation.rm, source);
    }
    const bool equal = old == accumulator;
    Compare::run(cpu, accumulator, old);
    // A 32-bit accumulator is written, and so zero-extended, only when the values differ.
    if (!equal) set_register<T>(cpu, x86::kRax, old);
  }
};

/// CMPXCHG8B (Half = uint32_t) and CMPXCHG16B (Half = uint64_t).
template <typename Half>
void compare_exchange_pair(Cpu& cpu, const Operation& operation) {
  constexpr unsigned kSize = 2 * sizeof(Half);
  // Before #SS(0) for an address that is not canonical.
  if (kSize == 16 && unchecked_operand_linear(cpu, operation) % 16 != 0)
    Cpu::raise(x86::Exception::general_protection());
  const uint64_t linear = operand_linear(cpu, operation, kSize, AccessKind::kWrite);
  struct Pair {
    Half low, high;
    bool operator==(const Pair&) const = default;
  };
  const Pair expected = {get_register<Half>(cpu, x86::kRax), get_register<Half>(cpu, x86::kRdx)};
  const Pair desired = {get_register<Half>(cpu, x86::kRbx), get_register<Half>(cpu, x86::kRcx)};
  Pair old = expected;
  bool equal = false;
  const auto exchange = [&](std::byte* host) {
    if constexpr (kSize == 16)
      asm volatile("lock cmpxchg16b %[m]"
                   : [m] "+m"(*reinterpret_cast<unsigned __int128*>(host)), "+a"(old.low),
                     "+d"(old.high), "=@ccz"(equal)
                   : "b"(desired.low), "c"(desired.high)
                   : "memory");
    else
      asm volatile("lock cmpxchg8b %[m]"
                   : [m] "+m"(*reinterpret_cast<uint64_t*>(host)), "+a"(old.low), "+d"(old.high),
                     "=@ccz"(equal)
                   : "b"(desired.low), "c"(desired.high)
                   : "memory");
  };
  if (std::byte* host = cpu.mmu.host_for_write(linear, kSize)) {
    exchange(host);
  } else if (const auto place = cpu.mmu.place_for_locked(linear, kSize); place.host != nullptr) {
    exchange(place.host);
    cpu.mmu.wrote_locked(place);
  } else {
    const std::lock_guard lock(bus_lock());
    cpu.mmu.probe_write(linear, kSize);
    old = {cpu.mmu.read<Half>(linear), cpu.mmu.read<Half>(linear + sizeof(Half))};
    equal = old == expected;
    const Pair result = equal ? desired : old;
    cpu.mmu.write_bytes(linear, std::as_bytes(std::span(&result, 1)));
  }
  cpu.flags_low = static_cast<uint8_t>((cpu.flags_low & ~x86::rflags::kZero) |
                                       (equal ? x86::rflags::kZero : 0));
  if (!equal) {
    set_register<Half>(cpu, x86::kRax, old.low);
    set_register<Half>(cpu, x86::kRdx, old.high);
  }
}

}  // namespace

Handler select_exchange(const decode::Instruction& instruction, Operation& operation) {
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_XCHG:
      if (is_memory(instruction, 0) || is_memory(instruction, 1)) {
        operation.reg = register_of(instruction, is_memory(instruction, 0) ? 1 : 0);
        return by_size<ExchangeMemory>(operation.operand_size);
      }
      operation.reg = register_of(instruction, 0);
      operation.rm = register_of(instruction, 1);
      return by_size<ExchangeRegisters>(operation.operand_size);
    case ZYDIS_MNEMONIC_XADD:
      return by_size<ExchangeAdd>(operation.operand_size);
    case ZYDIS_MNEMONIC_CMPXCHG:
      return by_size<CompareExchange>(operation.operand_size);
    case ZYDIS_MNEMONIC_CMPXCHG8B:
      return compare_exchange_pair<uint32_t>;
    case ZYDIS_MNEMONIC_CMPXCHG16B:
      return compare_exchange_pair<uint64_t>;
    default:
      return nullptr;
  }
}

}  // namespace limen::soft::interpret
