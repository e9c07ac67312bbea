#include "soft/interpret/native/run.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>

#include "soft/interpret/native/checks.h"
#include "soft/interpret/native/image.h"
#include "soft/interpret/native/x87_pointers.h"
#include "soft/interpret/operand.h"

namespace limen::soft::interpret::native {
namespace {

AccessKind kind_of(Access access) {
  return access == Access::kRead ? AccessKind::kRead : AccessKind::kWrite;
}

inline void call(Cpu& cpu, const Thunk& thunk, void* memory, void* x87) {
  if (const uint32_t fault = thunk.code(&cpu, memory, x87)) [[unlikely]]
    raise_reported(cpu, fault);
}

/// One bit for each element of the operand that is accessed.
uint64_t active_elements(const Cpu& cpu, const Thunk& thunk) {
  const uint64_t lanes = thunk.lanes >= 64 ? ~uint64_t{0} : (uint64_t{1} << thunk.lanes) - 1;
  if (thunk.masking == Masking::kSignBits) {
    uint64_t active = 0;
    for (unsigned i = 0; i < thunk.lanes; ++i) {
      const size_t top = (i + 1u) * thunk.element_size - 1u;
      if (cpu.vector.zmm[thunk.mask_register][top] & 0x80) active |= uint64_t{1} << i;
    }
    return active;
  }
  const uint64_t mask = cpu.vector.opmask[thunk.mask_register] & lanes;
  switch (thunk.masking) {
    case Masking::kPacked: {
      const auto count = static_cast<unsigned>(std::popcount(mask));
      return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
    }
    case Masking::kWhole: {
      const unsigned count = thunk.memory_size / thunk.element_size;
      uint64_t active = 0;
      for (unsigned i = 0; i < thunk.lanes; ++i)
        if (mask >> i & 1) active |= uint64_t{1} << (i % count);
      return active;
    }
    default:
      return mask;
  }
}

bool is_memory_fault(const x86::Exception& fault) {
  switch (fault.vector) {
    case x86::Vector::kPageFault:
    case x86::Vector::kGeneralProtection:
    case x86::Vector::kStackFault:
    case x86::Vector::kAlignmentCheck:
      return true;
    default:
      return false;
  }
}

/// Whether a store of the x87 unit, which has left its state in `x87`, raised an unmasked exception
/// other than for precision: it has left memory alone (SDM Vol. 1 8.5.1, 8.5.4, 8.5.5).
bool has_stored_nothing(const Thunk& thunk, const void* x87) {
  constexpr unsigned kInvalidOverflowUnderflow = 0x19;
  if (x87 == nullptr || thunk.access != Access::kWrite || !thunk.waits) return false;
  std::array<uint16_t, 2> control_and_status{};
  std::memcpy(control_and_status.data(), x87, sizeof control_and_status);
  return (control_and_status[1] & ~control_and_status[0] & kInvalidOverflowUnderflow) != 0;
}

/// True: the instruction was a store that leaves memory alone, even where it would fault, and is
/// done.
bool completes_without_memory(Cpu& cpu, const Thunk& thunk, const x86::Exception& fault,
                              void* x87) {
  if (x87 == nullptr || thunk.access != Access::kWrite || !thunk.waits || !is_memory_fault(fault) ||
      x87_exception_pending(cpu.vector))
    return false;
  alignas(64) std::array<std::byte, 64> unused;
  call(cpu, thunk, unused.data(), x87);
  return has_stored_nothing(thunk, x87);
}

bool is_ignored(const Thunk& thunk, const x86::Exception& fault) {
  return thunk.any_alignment && fault.vector == x86::Vector::kAlignmentCheck;
}

/// Raises what the processor finds before it looks at a memory operand that faults, or the fault.
[[noreturn]] void raise_in_order(Cpu& cpu, const Operation& operation, const Thunk& thunk,
                                 const x86::Exception& fault) {
  if (!is_memory_fault(fault)) throw fault;  // the instruction's own
  if (thunk.waits && x87_exception_pending(cpu.vector)) raise_plain(x86::Vector::kX87FloatingPoint);
  if ((unchecked_operand_linear(cpu, operation) & thunk.alignment) != 0)
    throw x86::Exception::general_protection();
  if (thunk.computes_first) {
    // MXCSR keeps what the computation noted.
    alignas(64) std::array<std::byte, 64> unused;
    call(cpu, thunk, unused.data(), nullptr);
  }
  throw fault;
}

template <Access kAccess>
inline void access_and_call(Cpu& cpu, const Operation& operation, const Thunk& thunk, void* x87) {
  if constexpr (kAccess == Access::kNone) {
    call(cpu, thunk, nullptr, x87);
  } else {
    try {
      const uint64_t linear = operand_linear(cpu, operation, thunk.memory_size, kind_of(kAccess));
      void* memory = kAccess == Access::kRead ? cpu.mmu.host_for_read(linear, thunk.memory_size)
                                              : cpu.mmu.host_for_write(linear, thunk.memory_size);
      if (memory) [[likely]]
        call(cpu, thunk, memory, x87);
      else
        run_bounced(cpu, thunk, linear, x87);
    } catch (const x86::Exception& fault) {
      if (is_ignored(thunk, fault))
        run_bounced(cpu, thunk, unchecked_operand_linear(cpu, operation), x87);
      else if (!completes_without_memory(cpu, thunk, fault, x87))
        raise_in_order(cpu, operation, thunk, fault);
    }
  }
}

template <Check kCheck, Access kAccess>
void run(Cpu& cpu, const Operation& operation) {
  check<kCheck>(cpu);
  access_and_call<kAccess>(cpu, operation, *static_cast<const Thunk*>(operation.native), nullptr);
}

void masked(Cpu& cpu, const Operation& operation, const Thunk& thunk) {
  uint64_t linear = 0;
  void* memory = nullptr;
  try {
    linear = operand_linear(cpu, operation, thunk.memory_size, kind_of(thunk.access));
    memory = thunk.access == Access::kRead ? cpu.mmu.host_for_read(linear, thunk.memory_size)
                                           : cpu.mmu.host_for_write(linear, thunk.memory_size);
  } catch (const x86::Exception& fault) {
    // A page fault counts only if an element that is not left out meets it, an address that does
    // not exist or is not aligned if there is any such element.
    if (fault.vector != x86::Vector::kPageFault && !is_ignored(thunk, fault) &&
        active_elements(cpu, thunk) != 0)
      raise_in_order(cpu, operation, thunk, fault);
    if (fault.vector != x86::Vector::kPageFault) linear = unchecked_operand_linear(cpu, operation);
  }
  if (memory) {
    call(cpu, thunk, memory, nullptr);
    return;
  }
  try {
    run_masked_bounced(cpu, thunk, linear);
  } catch (const x86::Exception& fault) {
    raise_in_order(cpu, operation, thunk, fault);
  }
}

template <Check kCheck>
void run_masked(Cpu& cpu, const Operation& operation) {
  check<kCheck>(cpu);
  masked(cpu, operation, *static_cast<const Thunk*>(operation.native));
}

template <Check kCheck>
Handler handler_for(const Thunk& thunk) {
  if (thunk.masking != Masking::kNone) return run_masked<kCheck>;
  switch (thunk.access) {
    case Access::kNone:
      return run<kCheck, Access::kNone>;
    case Access::kRead:
      return run<kCheck, Access::kRead>;
    case Access::kWrite:
      return run<kCheck, Access::kWrite>;
    case Access::kUpdate:
      return run<kCheck, Access::kUpdate>;
  }
  return nullptr;
}

/// Room for an operand of 64 bytes at any offset from a 64-byte boundary: what the hardware decides
/// by alignment, it decides here as it would at the guest's address.
class Bounce {
 public:
  explicit Bounce(uint64_t linear) : at_(bytes_.data() + (linear & 63)) {}
  [[nodiscard]] std::byte* data() { return at_; }
  [[nodiscard]] std::span<std::byte> part(size_t offset, size_t size) {
    return {at_ + offset, size};
  }

 private:
  alignas(64) std::array<std::byte, 128> bytes_{};
  std::byte* at_;
};

/// Calls `visit(offset, size)` for each run of active elements, lowest first.
template <typename Visit>
void for_each_run(uint64_t active, unsigned element_size, Visit visit) {
  for (unsigned at = 0; at < 64 && (active >> at);) {
    at += static_cast<unsigned>(std::countr_zero(active >> at));
    const auto count = static_cast<unsigned>(std::countr_one(active >> at));
    visit(at * element_size, count * element_size);
    at += count;
  }
}

}  // namespace

void raise_reported(const Cpu& cpu, uint32_t number) {
  const auto vector = static_cast<x86::Vector>(number);
  switch (vector) {
    case x86::Vector::kSimdFloatingPoint:
      raise_plain(cpu.system.cr4 & x86::cr4::kOsxmmexcpt ? vector : x86::Vector::kInvalidOpcode);
    case x86::Vector::kGeneralProtection:
    case x86::Vector::kAlignmentCheck:
      throw x86::Exception::with_code(vector, 0);
    default:
      raise_plain(vector);
  }
}

void run_bounced(Cpu& cpu, const Thunk& thunk, uint64_t linear, void* x87) {
  Bounce bounce(linear);
  const unsigned size = thunk.memory_size;
  if (thunk.access != Access::kRead) cpu.mmu.probe_write_bytes(linear, size);
  if (thunk.access != Access::kWrite) cpu.mmu.read_bytes(linear, bounce.part(0, size));
  call(cpu, thunk, bounce.data(), x87);
  if (thunk.access != Access::kRead && !has_stored_nothing(thunk, x87))
    cpu.mmu.write_bytes(linear, bounce.part(0, size));
}

void run_masked_bounced(Cpu& cpu, const Thunk& thunk, uint64_t linear) {
  Bounce bounce(linear);
  const uint64_t active = active_elements(cpu, thunk);
  for_each_run(active, thunk.element_size, [&](unsigned offset, unsigned size) {
    if (thunk.access == Access::kRead)
      cpu.mmu.read_bytes(linear + offset, bounce.part(offset, size));
    else
      cpu.mmu.probe_write_bytes(linear + offset, size);
  });
  call(cpu, thunk, bounce.data(), nullptr);
  if (thunk.access == Access::kRead) return;
  for_each_run(active, thunk.element_size, [&](unsigned offset, unsigned size) {
    cpu.mmu.write_bytes(linear + offset, bounce.part(offset, size));
  });
}

void run_x87(Cpu& cpu, const Operation& operation, const Thunk& thunk) {
  // The register images in between belong to SSE, which the thunk's XRSTOR does not load.
  X87Area area;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  auto& image = cpu.vector.fxsave;
  std::memcpy(area.legacy.data(), image.data(), image.size());
  area.header = {x86::xcr0::kX87};
  // Whether the host notes an opcode shows only if it is not there already.
  const auto opcode_before = image_field<uint16_t>(cpu.vector, kOpcodeAt);
  const auto opcode_in = static_cast<uint16_t>(opcode_before ^ (opcode_before == thunk.x87_opcode));
  std::memcpy(area.legacy.data() + kOpcodeAt, &opcode_in, 2);

  switch (thunk.access) {
    case Access::kNone:
      access_and_call<Access::kNone>(cpu, operation, thunk, &area);
      break;
    case Access::kRead:
      access_and_call<Access::kRead>(cpu, operation, thunk, &area);
      break;
    default:
      access_and_call<Access::kWrite>(cpu, operation, thunk, &area);
      break;
  }

  constexpr unsigned kPointersAt = kOpcodeAt;
  std::memcpy(image.data(), area.legacy.data(), kPointersAt);
  std::memcpy(image.data() + kStackAt, area.legacy.data() + kStackAt, 128);
  if (!host_features().saves_x87_pointers) {  // and its kernel may lose them at any time
    if (thunk.is_noted)
      note_x87(cpu.vector,
               {.instruction = cpu.rip,
                .opcode = static_cast<uint16_t>(operation.immediate),
                .data = thunk.access != Access::kNone
                            ? effective_address(cpu, operation)
                            : image_field<uint64_t>(cpu.vector, kDataPointerAt)},
               (image_field<uint16_t>(cpu.vector, kStatusWordAt) & kErrorSummary) != 0);
    return;
  }
  // Where the host noted its own addresses, the guest's belong.
  const auto& environment = area.environment;
  const auto host_instruction =
      static_cast<uint32_t>(reinterpret_cast<uintptr_t>(thunk.instruction));
  const bool noted = environment[3] == host_instruction;
  const auto opcode = static_cast<uint16_t>(environment[4] >> 16 & 0x7FF);
  if (opcode != opcode_in)
    set_image_field(
        cpu.vector, kOpcodeAt,
        noted && opcode == thunk.x87_opcode ? static_cast<uint16_t>(operation.immediate) : opcode);
  if (noted)
    set_image_field(cpu.vector, kInstructionPointerAt, cpu.rip);
  else if (environment[3] != image_field<uint32_t>(cpu.vector, kInstructionPointerAt))
    set_image_field(cpu.vector, kInstructionPointerAt, uint64_t{environment[3]});
  if (environment[5] != image_field<uint32_t>(cpu.vector, kDataPointerAt))
    set_image_field(cpu.vector, kDataPointerAt,
                    noted && thunk.access != Access::kNone ? effective_address(cpu, operation)
                                                           : uint64_t{environment[5]});
}

namespace {

template <Check kCheck>
void run_x87_checked(Cpu& cpu, const Operation& operation) {
  check<kCheck>(cpu);
  run_x87(cpu, operation, *static_cast<const Thunk*>(operation.native));
}

}  // namespace

Handler thunk_handler(Check check, const Thunk& thunk) {
  switch (check) {
    case Check::kNone:
      return handler_for<Check::kNone>(thunk);
    case Check::kVexGeneral:
      return handler_for<Check::kVexGeneral>(thunk);
    case Check::kSse:
      return handler_for<Check::kSse>(thunk);
    case Check::kAvx:
      return handler_for<Check::kAvx>(thunk);
    case Check::kAvx512:
      return handler_for<Check::kAvx512>(thunk);
    case Check::kX87:
      return handler_for<Check::kX87>(thunk);
    case Check::kMmx:
      return handler_for<Check::kMmx>(thunk);
  }
  return nullptr;
}

Handler x87_thunk_handler(Check check) {
  switch (check) {
    case Check::kSse:
      return run_x87_checked<Check::kSse>;
    case Check::kMmx:
      return run_x87_checked<Check::kMmx>;
    default:
      return run_x87_checked<Check::kX87>;
  }
}

void run_transient(Cpu& cpu, const Operation& operation) {
  decode::Instruction instruction;
  if (decode::decode(cpu.mode, operation.bytes, instruction) != decode::Outcome::kOk)
    raise_plain(x86::Vector::kInvalidOpcode);
  const Check required = required_check(instruction);
  const bool plain_scan = availability(instruction, cpu.cpuid) == Availability::kHidden;
  const TransientThunk transient(instruction, cpu, plain_scan);
  Operation own = operation;
  own.native = &transient.thunk();
  const Handler handler = uses_x87_state(instruction) ? x87_thunk_handler(required)
                                                      : thunk_handler(required, transient.thunk());
  handler(cpu, own);
}

}  // namespace limen::soft::interpret::native
