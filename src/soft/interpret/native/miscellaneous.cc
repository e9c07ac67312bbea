// Instructions with two memory operands, with an unnamed one, or that touch every vector register.
#include <algorithm>
#include <array>

#include "soft/interpret/native/checks.h"
#include "soft/interpret/native/image.h"
#include "soft/interpret/native/special.h"
#include "soft/interpret/operand.h"

namespace limen::soft::interpret::native {
namespace {

/// Writes the bytes of `data` whose mask byte has its top bit set (SDM Vol. 2B MASKMOVDQU).
void store_masked(Cpu& cpu, const Operation& operation, const uint8_t* data, const uint8_t* mask,
                  unsigned count) {
  const uint64_t linear = operand_linear(cpu, operation, count, AccessKind::kWrite);
  // The eight bytes of MASKMOVQ are a quadword, and lie in one page if that is aligned.
  const bool any = std::any_of(mask, mask + count, [](uint8_t byte) { return byte & 0x80; });
  if (count == 8 && any) cpu.mmu.probe_write(linear, 8);
  for (unsigned i = 0; i < count; ++i)
    if (mask[i] & 0x80) cpu.mmu.probe_write(linear + i, 1);
  for (unsigned i = 0; i < count; ++i)
    if (mask[i] & 0x80) cpu.mmu.write<uint8_t>(linear + i, data[i]);
}

template <Check kCheck>
void maskmovdqu(Cpu& cpu, const Operation& operation) {
  check<kCheck>(cpu);
  store_masked(cpu, operation, cpu.vector.zmm[operation.reg].data(),
               cpu.vector.zmm[operation.rm].data(), 16);
}

void maskmovq(Cpu& cpu, const Operation& operation) {
  check<Check::kMmx>(cpu);
  if (x87_exception_pending(cpu.vector)) raise_plain(x86::Vector::kX87FloatingPoint);
  // MMX registers are the physical ones; the image has them from the top of the stack.
  const unsigned top = x87_top(cpu.vector);
  const auto physical = [&](unsigned reg) {
    return cpu.vector.fxsave.data() + kStackAt + size_t{16} * ((reg - top) & 7);
  };
  store_masked(cpu, operation, physical(operation.reg), physical(operation.rm), 8);
  // As every MMX instruction: TOP is 0, no register is empty (SDM Vol. 1 9.5.1).
  set_x87_top(cpu.vector, 0);
  cpu.vector.fxsave[kTagsAt] = 0xFF;
}

/// A direct store of 64 bytes to ES:register (SDM Vol. 2B MOVDIR64B).
void movdir64b(Cpu& cpu, const Operation& operation) {
  uint64_t offset = cpu.gpr[operation.reg];
  if (operation.address_size == 4) offset = static_cast<uint32_t>(offset);
  if (operation.address_size == 2) offset = static_cast<uint16_t>(offset);
  alignas(64) std::array<std::byte, 64> bytes;
  cpu.mmu.read_bytes(operand_linear(cpu, operation, 64, AccessKind::kRead), bytes);
  const uint64_t target = linear_address(cpu, x86::kEs, offset, 64, AccessKind::kWrite);
  if (target & 63) throw x86::Exception::general_protection();
  cpu.mmu.write_bytes(target, bytes);
}

template <size_t kKept>
void vzero(Cpu& cpu, const Operation&) {
  check<Check::kAvx>(cpu);
  const size_t count = cpu.mode == decode::CodeMode::k64 ? 16 : 8;
  for (size_t i = 0; i < count; ++i)
    std::memset(cpu.vector.zmm[i].data() + kKept, 0, cpu.vector.zmm[i].size() - kKept);
}

/// RDSSP while shadow stacks are off (SDM Vol. 2B RDSSPD), and MPX where there is none.
void no_operation(Cpu&, const Operation&) {}

/// The memory operand that is named by no byte: DS:rDI, the segment can be overridden.
void use_implicit_memory(const decode::Instruction& instruction, Operation& operation) {
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    const auto& operand = instruction.operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    operation.base = x86::kRdi;
    operation.index = kZeroRegister;
    operation.displacement = 0;
    operation.segment = static_cast<uint8_t>(ZydisRegisterGetId(operand.mem.segment));
  }
}

}  // namespace

Handler select_miscellaneous(const decode::Instruction& instruction, Operation& operation) {
  if (instruction.raw.meta.isa_set == ZYDIS_ISA_SET_MPX) return no_operation;
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_MASKMOVQ:
      use_implicit_memory(instruction, operation);
      return maskmovq;
    case ZYDIS_MNEMONIC_MASKMOVDQU:
      use_implicit_memory(instruction, operation);
      return maskmovdqu<Check::kSse>;
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
      use_implicit_memory(instruction, operation);
      return maskmovdqu<Check::kAvx>;
    case ZYDIS_MNEMONIC_MOVDIR64B:
      return movdir64b;
    case ZYDIS_MNEMONIC_VZEROUPPER:
      return vzero<16>;
    case ZYDIS_MNEMONIC_VZEROALL:
      return vzero<0>;
    case ZYDIS_MNEMONIC_RDSSPD:
    case ZYDIS_MNEMONIC_RDSSPQ:
      return no_operation;
    default:
      return nullptr;
  }
}

}  // namespace limen::soft::interpret::native
