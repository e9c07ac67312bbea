// LAR, LSL, VERR, VERW, ARPL: what a selector would give, without loading it (SDM Vol. 3A 5.10).
#include <optional>

#include "soft/interpret/operand.h"
#include "soft/interpret/system/descriptor.h"
#include "soft/interpret/system/handlers.h"

namespace limen::soft::interpret {

using x86::Exception;
using x86::Vector;

namespace {

constexpr uint8_t kZeroFlag = 1u << 6;

void set_zero_flag(Cpu& cpu, bool value) {
  cpu.flags_low =
      static_cast<uint8_t>(value ? cpu.flags_low | kZeroFlag : cpu.flags_low & ~kZeroFlag);
}

uint16_t selector_operand(Cpu& cpu, const Operation& operation) {
  if (!cpu.protected_mode) Cpu::raise(Exception::invalid_opcode());
  return (operation.flags & Operation::kMemory)
             ? cpu.mmu.read<uint16_t>(operand_linear(cpu, operation, 2, AccessKind::kRead))
             : get_register<uint16_t>(cpu, operation.rm);
}

/// The descriptor, if the selector names one and this privilege may see it. Page faults pass.
std::optional<Descriptor> visible_descriptor(Cpu& cpu, uint16_t selector) {
  if (is_null(selector)) return std::nullopt;
  try {
    Descriptor descriptor = fetch_descriptor(cpu, selector);
    if (descriptor.is_system()) fetch_upper_half(cpu, selector, descriptor);
    if (!descriptor.is_conforming() &&
        (cpu.cpl > descriptor.dpl() || (selector & 3u) > descriptor.dpl()))
      return std::nullopt;
    return descriptor;
  } catch (const Exception& exception) {
    if (exception.vector != Vector::kGeneralProtection) throw;
    return std::nullopt;
  }
}

/// System types for which LAR (and, without the gates, LSL) answers.
bool is_known_system_type(const Cpu& cpu, unsigned type, bool gates) {
  using namespace system_type;  // NOLINT(google-build-using-namespace)
  switch (type) {
    case kLdt:
    case kTss32Available:
    case kTss32Busy:
      return true;
    case kTss16Available:
    case kTss16Busy:
      return !cpu.long_mode;
    case kCallGate32:
      return gates;
    case kCallGate16:
    case kTaskGate:
      return gates && !cpu.long_mode;
    default:
      return false;
  }
}

void answer(Cpu& cpu, const Operation& operation, uint32_t value) {
  if (operation.operand_size == 2)
    set_register<uint16_t>(cpu, operation.reg, static_cast<uint16_t>(value));
  else
    set_register<uint64_t>(cpu, operation.reg, value);
}

}  // namespace

void load_access_rights(Cpu& cpu, const Operation& operation) {
  const auto descriptor = visible_descriptor(cpu, selector_operand(cpu, operation));
  const bool valid = descriptor && (!descriptor->is_system() ||
                                    is_known_system_type(cpu, descriptor->type(), true));
  set_zero_flag(cpu, valid);
  if (valid) answer(cpu, operation, static_cast<uint32_t>(descriptor->low >> 32) & 0x00FFFF00);
}

void load_segment_limit(Cpu& cpu, const Operation& operation) {
  const auto descriptor = visible_descriptor(cpu, selector_operand(cpu, operation));
  const bool valid = descriptor && (!descriptor->is_system() ||
                                    is_known_system_type(cpu, descriptor->type(), false));
  set_zero_flag(cpu, valid);
  if (valid) answer(cpu, operation, descriptor->limit());
}

void verify_read(Cpu& cpu, const Operation& operation) {
  const auto descriptor = visible_descriptor(cpu, selector_operand(cpu, operation));
  set_zero_flag(cpu, descriptor && !descriptor->is_system() && descriptor->is_readable());
}

void verify_write(Cpu& cpu, const Operation& operation) {
  const auto descriptor = visible_descriptor(cpu, selector_operand(cpu, operation));
  set_zero_flag(cpu, descriptor && descriptor->is_writable_data());
}

void adjust_rpl(Cpu& cpu, const Operation& operation) {
  if (!cpu.protected_mode) Cpu::raise(Exception::invalid_opcode());
  const auto wanted = static_cast<uint16_t>(get_register<uint16_t>(cpu, operation.reg) & 3);
  const bool in_memory = operation.flags & Operation::kMemory;
  const uint64_t linear = in_memory ? operand_linear(cpu, operation, 2, AccessKind::kWrite) : 0;
  const uint16_t selector =
      in_memory ? cpu.mmu.read<uint16_t>(linear) : get_register<uint16_t>(cpu, operation.rm);
  const bool raise = (selector & 3) < wanted;
  if (raise) {
    const auto adjusted = static_cast<uint16_t>((selector & ~3) | wanted);
    if (in_memory)
      cpu.mmu.write<uint16_t>(linear, adjusted);
    else
      set_register<uint16_t>(cpu, operation.rm, adjusted);
  }
  set_zero_flag(cpu, raise);
}

}  // namespace limen::soft::interpret
