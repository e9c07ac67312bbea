// MOVS, STOS, LODS, SCAS, CMPS with REP, REPE, REPNE (SDM Vol. 2B REP). INS and OUTS are in
// system/.
//
// A repeated instruction updates rCX, rSI and rDI after every element, so that a fault or an
// interrupt leaves it restartable. Runs of MOVS and STOS that stay in one page go by bulk copy.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "soft/interpret/integer/alu.h"
#include "soft/interpret/integer/forms.h"

namespace limen::soft::interpret {
namespace {

/// After this many elements a repeated instruction looks whether an interrupt waits.
constexpr uint64_t kElementsBetweenPolls = 4096;

template <typename T>
class StringStep {
 public:
  StringStep(Cpu& cpu, const Operation& operation)
      : cpu_(cpu),
        operation_(operation),
        mask_(operation.address_size == 8   ? ~uint64_t{0}
              : operation.address_size == 4 ? 0xFFFFFFFF
                                            : 0xFFFF),
        step_((cpu.flags_rest & x86::rflags::kDirection) ? -sizeof(T) : sizeof(T)) {}

  [[nodiscard]] uint64_t source() const { return cpu_.gpr[x86::kRsi] & mask_; }
  [[nodiscard]] uint64_t destination() const { return cpu_.gpr[x86::kRdi] & mask_; }
  [[nodiscard]] uint64_t count() const { return cpu_.gpr[x86::kRcx] & mask_; }
  [[nodiscard]] bool forward() const { return step_ == sizeof(T); }
  [[nodiscard]] uint64_t mask() const { return mask_; }

  /// Registers of 32 bits lose their upper halves even if there is no round to run: the counter
  /// always, the addresses of MOVS and STOS.
  void cut_registers(bool source, bool destination) {
    if (mask_ != 0xFFFFFFFF) return;
    cpu_.gpr[x86::kRcx] &= mask_;
    if (source) cpu_.gpr[x86::kRsi] &= mask_;
    if (destination) cpu_.gpr[x86::kRdi] &= mask_;
  }

  void advance_source(uint64_t elements = 1) { advance(x86::kRsi, elements * step_); }
  void advance_destination(uint64_t elements = 1) { advance(x86::kRdi, elements * step_); }
  void take_from_count(uint64_t elements) { advance(x86::kRcx, 0 - elements); }

  T load() { return read_memory<T>(cpu_, operation_.segment, source()); }
  T load_destination() { return read_memory<T>(cpu_, x86::kEs, destination()); }
  void store(T value) { write_memory<T>(cpu_, x86::kEs, destination(), value); }

  /// Elements that fit between `linear` and the end of its page.
  static uint64_t elements_in_page(uint64_t linear) {
    return (memory::kPageSize - linear % memory::kPageSize) / sizeof(T);
  }

 private:
  void advance(uint8_t reg, uint64_t amount) {
    uint64_t& full = cpu_.gpr[reg];
    const uint64_t value = full + amount;
    full = mask_ == 0xFFFF ? (full & ~uint64_t{0xFFFF}) | (value & 0xFFFF) : value & mask_;
  }

  Cpu& cpu_;
  const Operation& operation_;
  uint64_t mask_;
  uint64_t step_;
};

/// One element, no prefix.
template <typename T>
struct Moves {
  static void element(Cpu&, StringStep<T>& step) {
    step.store(step.load());
    step.advance_source();
    step.advance_destination();
  }
  static constexpr bool kCutsSource = true;
  static constexpr bool kCutsDestination = true;
  static constexpr bool kCompares = false;
};
template <typename T>
struct Stores {
  static void element(Cpu& cpu, StringStep<T>& step) {
    step.store(get_register<T>(cpu, x86::kRax));
    step.advance_destination();
  }
  static constexpr bool kCutsSource = false;
  static constexpr bool kCutsDestination = true;
  static constexpr bool kCompares = false;
};
template <typename T>
struct Loads {
  static void element(Cpu& cpu, StringStep<T>& step) {
    set_register<T>(cpu, x86::kRax, step.load());
    step.advance_source();
  }
  static constexpr bool kCutsSource = false;
  static constexpr bool kCutsDestination = false;
  static constexpr bool kCompares = false;
};
template <typename T>
struct Scans {
  static void element(Cpu& cpu, StringStep<T>& step) {
    T accumulator = get_register<T>(cpu, x86::kRax);
    Compare::run(cpu, accumulator, step.load_destination());
    step.advance_destination();
  }
  static constexpr bool kCutsSource = false;
  static constexpr bool kCutsDestination = false;
  static constexpr bool kCompares = true;
};
template <typename T>
struct Compares {
  static void element(Cpu& cpu, StringStep<T>& step) {
    // In the processor's order, which shows when both fault.
    const T right = step.load_destination();
    T left = step.load();
    Compare::run(cpu, left, right);
    step.advance_source();
    step.advance_destination();
  }
  static constexpr bool kCutsSource = false;
  static constexpr bool kCutsDestination = false;
  static constexpr bool kCompares = true;
};

/// Puts the flags back as they were unless the instruction came to its end: SCAS and CMPS that are
/// stopped between two elements have not changed them yet (SDM Vol. 2B REP).
class FlagsUntilDone {
 public:
  explicit FlagsUntilDone(Cpu& cpu)
      : cpu_(cpu), low_(cpu.flags_low), overflow_(cpu.flags_overflow) {}
  FlagsUntilDone(const FlagsUntilDone&) = delete;
  FlagsUntilDone& operator=(const FlagsUntilDone&) = delete;
  ~FlagsUntilDone() {
    if (done) return;
    cpu_.flags_low = low_;
    cpu_.flags_overflow = overflow_;
  }
  bool done = false;

 private:
  Cpu& cpu_;
  decltype(Cpu::flags_low) low_;
  decltype(Cpu::flags_overflow) overflow_;
};
struct NoFlags {
  explicit NoFlags(Cpu&) {}
  bool done = false;
};

/// Elements of the run that can be handled in one go, limited by pages, count and the polling
/// distance; 0: go element by element. Forward only, and 64-bit mode only: there are no segment
/// limits to mind. While alignment is checked, each element is by itself.
template <typename T>
uint64_t bulk_elements(const Cpu& cpu, const StringStep<T>& step, uint64_t linear) {
  if (cpu.mode != decode::CodeMode::k64 || !step.forward() || step.mask() != ~uint64_t{0}) return 0;
  if (cpu.cpl == 3 && cpu.flag(x86::rflags::kAlignmentCheck)) return 0;
  return std::min({StringStep<T>::elements_in_page(linear), step.count(), kElementsBetweenPolls});
}

/// As much of `rep stos` as one page holds. False: nothing was done.
template <typename T>
bool bulk_store(Cpu& cpu, StringStep<T>& step) {
  const uint64_t linear = step.destination();
  const uint64_t elements = bulk_elements(cpu, step, linear);
  if (elements < 2 || !is_canonical(linear)) return false;
  std::byte* host = cpu.mmu.host_for_write(linear, static_cast<unsigned>(elements * sizeof(T)));
  if (host == nullptr) return false;
  const T value = get_register<T>(cpu, x86::kRax);
  if (value == 0 || sizeof(T) == 1) {
    std::memset(host, static_cast<int>(value & 0xFF), elements * sizeof(T));
  } else {
    for (uint64_t i = 0; i < elements; ++i) std::memcpy(host + i * sizeof(T), &value, sizeof(T));
  }
  step.advance_destination(elements);
  step.take_from_count(elements);
  return true;
}

template <typename T>
bool bulk_move(Cpu& cpu, const Operation& operation, StringStep<T>& step) {
  if (operation.segment >= x86::kFs) return false;
  const uint64_t from = step.source();
  const uint64_t to = step.destination();
  const uint64_t elements = std::min(bulk_elements(cpu, step, from), bulk_elements(cpu, step, to));
  if (elements < 2 || !is_canonical(from) || !is_canonical(to)) return false;
  const auto bytes = static_cast<unsigned>(elements * sizeof(T));
  const std::byte* source = cpu.mmu.host_for_read(from, bytes);
  if (source == nullptr) return false;
  std::byte* destination = cpu.mmu.host_for_write(to, bytes);
  if (destination == nullptr) return false;
  // A destination that begins inside the source sees its own writes, element by element.
  if (destination > source && destination < source + bytes) return false;
  std::memmove(destination, source, bytes);
  step.advance_source(elements);
  step.advance_destination(elements);
  step.take_from_count(elements);
  return true;
}

template <template <typename> typename Kind>
struct StringInstruction {
  template <typename T>
  struct Single {
    static void run(Cpu& cpu, const Operation& operation) {
      StringStep<T> step(cpu, operation);
      Kind<T>::element(cpu, step);
    }
  };

  template <typename T>
  struct Repeated {
    static void run(Cpu& cpu, const Operation& operation) {
      StringStep<T> step(cpu, operation);
      std::conditional_t<Kind<T>::kCompares, FlagsUntilDone, NoFlags> flags(cpu);
      step.cut_registers(Kind<T>::kCutsSource, Kind<T>::kCutsDestination);
      const bool single_step =
          (cpu.flags_rest & x86::rflags::kTrap) != 0 || cpu.debugger.single_step();
      for (uint64_t done = 0; step.count() != 0;) {
        if (done >= kElementsBetweenPolls || (single_step && done > 0) || cpu.leave_block) {
          if (single_step || cpu.leave_block || cpu.attention.is_called()) {
            cpu.gpr[kNextRip] = cpu.rip;
            cpu.leave_block = true;  // what follows is not due yet
            return;
          }
          done = 0;
        }
        const uint64_t before = step.count();
        if constexpr (std::is_same_v<Kind<T>, Stores<T>>) {
          if (!single_step && bulk_store(cpu, step)) {
            done += before - step.count();
            continue;
          }
        }
        if constexpr (std::is_same_v<Kind<T>, Moves<T>>) {
          if (!single_step && bulk_move(cpu, operation, step)) {
            done += before - step.count();
            continue;
          }
        }
        Kind<T>::element(cpu, step);
        step.take_from_count(1);
        ++done;
        if constexpr (Kind<T>::kCompares) {
          const bool equal = (cpu.flags_low & x86::rflags::kZero) != 0;
          if (equal == ((operation.flags & Operation::kRepne) != 0)) break;
        }
      }
      flags.done = true;
    }
  };

  static Handler select(unsigned size, bool repeated) {
    return repeated ? by_size<Repeated>(size) : by_size<Single>(size);
  }
};

}  // namespace

Handler select_string(const decode::Instruction& instruction, Operation& operation) {
  unsigned size = 0;
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_LODSB:
    case ZYDIS_MNEMONIC_SCASB:
    case ZYDIS_MNEMONIC_CMPSB:
      size = 1;
      break;
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_LODSW:
    case ZYDIS_MNEMONIC_SCASW:
    case ZYDIS_MNEMONIC_CMPSW:
      size = 2;
      break;
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_CMPSD:
      // The SSE instructions of the same name have visible operands or another map.
      if (instruction.raw.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT) return nullptr;
      size = 4;
      break;
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_LODSD:
    case ZYDIS_MNEMONIC_SCASD:
      size = 4;
      break;
    case ZYDIS_MNEMONIC_MOVSQ:
    case ZYDIS_MNEMONIC_STOSQ:
    case ZYDIS_MNEMONIC_LODSQ:
    case ZYDIS_MNEMONIC_SCASQ:
    case ZYDIS_MNEMONIC_CMPSQ:
      size = 8;
      break;
    default:
      return nullptr;
  }
  operation.segment = segment_of_hidden_memory(instruction);
  const bool repeated = (operation.flags & (Operation::kRep | Operation::kRepne)) != 0;
  switch (instruction.raw.opcode) {
    case 0xA4:
    case 0xA5:
      return StringInstruction<Moves>::select(size, repeated);
    case 0xA6:
    case 0xA7:
      return StringInstruction<Compares>::select(size, repeated);
    case 0xAA:
    case 0xAB:
      return StringInstruction<Stores>::select(size, repeated);
    case 0xAC:
    case 0xAD:
      return StringInstruction<Loads>::select(size, repeated);
    default:
      return StringInstruction<Scans>::select(size, repeated);
  }
}

}  // namespace limen::soft::interpret
