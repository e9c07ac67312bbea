// MOV, PUSH and POP of segment registers, LDS to LSS (SDM Vol. 2B).
#include "soft/interpret/operand.h"
#include "soft/interpret/stack.h"
#include "soft/interpret/system/handlers.h"
#include "soft/interpret/system/segment.h"

namespace limen::soft::interpret {

void move_to_segment(Cpu& cpu, const Operation& operation) {
  const uint16_t selector =
      (operation.flags & Operation::kMemory)
          ? cpu.mmu.read<uint16_t>(operand_linear(cpu, operation, 2, AccessKind::kRead))
          : get_register<uint16_t>(cpu, operation.rm);
  load_segment_register(cpu, operation.reg, selector);
  if (operation.reg == x86::kSs) cpu.activity.mov_ss_shadow = true;
}

void move_from_segment(Cpu& cpu, const Operation& operation) {
  const uint16_t selector = cpu.system.segments[operation.reg].selector;
  if (operation.flags & Operation::kMemory)
    cpu.mmu.write<uint16_t>(operand_linear(cpu, operation, 2, AccessKind::kWrite), selector);
  else if (operation.operand_size == 2)
    set_register<uint16_t>(cpu, operation.rm, selector);
  else
    set_register<uint64_t>(cpu, operation.rm, selector);
}

namespace {

// Leaves the upper half of the stack's element as it is (SDM Vol. 2B PUSH).
void push_word_of_four(Cpu& cpu, uint16_t selector) {
  const uint64_t offset = (cpu.gpr[x86::kRsp] - 4) & cpu.stack_mask;
  write_memory<uint16_t>(cpu, x86::kSs, offset, selector);
  set_stack_pointer(cpu, offset);
}

}  // namespace

void push_segment(Cpu& cpu, const Operation& operation) {
  const uint16_t selector = cpu.system.segments[operation.reg].selector;
  switch (operation.operand_size) {
    case 2:
      return push<uint16_t>(cpu, selector);
    case 4:
      return push_word_of_four(cpu, selector);
    default:
      return push<uint64_t>(cpu, selector);
  }
}

void pop_segment(Cpu& cpu, const Operation& operation) {
  const auto selector = peek<uint16_t>(cpu);
  // The pointer moves in the width of the old stack, whatever B of a new SS says.
  const uint64_t mask = cpu.stack_mask;
  load_segment_register(cpu, operation.reg, selector);
  uint64_t& rsp = cpu.gpr[x86::kRsp];
  const uint64_t after = rsp + operation.operand_size;
  rsp = mask == 0xFFFF ? (rsp & ~mask) | (after & mask) : after & mask;
  if (operation.reg == x86::kSs) cpu.activity.mov_ss_shadow = true;
}

void load_far_pointer(Cpu& cpu, const Operation& operation) {
  if (!(operation.flags & Operation::kMemory)) Cpu::raise(x86::Exception::invalid_opcode());
  const unsigned size = operation.operand_size;
  const uint64_t linear = operand_linear(cpu, operation, size + 2, AccessKind::kRead);
  const uint64_t offset = size == 2   ? cpu.mmu.read<uint16_t>(linear)
                          : size == 4 ? cpu.mmu.read<uint32_t>(linear)
                                      : cpu.mmu.read<uint64_t>(linear);
  const auto selector = cpu.mmu.read<uint16_t>(linear + size);
  uint8_t segment = x86::kDs;
  switch (operation.mnemonic) {
    case ZYDIS_MNEMONIC_LES:
      segment = x86::kEs;
      break;
    case ZYDIS_MNEMONIC_LSS:
      segment = x86::kSs;
      break;
    case ZYDIS_MNEMONIC_LFS:
      segment = x86::kFs;
      break;
    case ZYDIS_MNEMONIC_LGS:
      segment = x86::kGs;
      break;
    default:
      break;
  }
  load_segment_register(cpu, segment, selector);
  if (size == 2)
    set_register<uint16_t>(cpu, operation.reg, static_cast<uint16_t>(offset));
  else
    set_register<uint64_t>(cpu, operation.reg, offset);
}

}  // namespace limen::soft::interpret
