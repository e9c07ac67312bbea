// CLI, STI, STAC, CLAC, PUSHF and POPF (SDM Vol. 2A, 2B).
#include "soft/interpret/system/flags.h"

#include "soft/interpret/operand.h"
#include "soft/interpret/stack.h"
#include "soft/interpret/system/features.h"
#include "soft/interpret/system/handlers.h"

namespace limen::soft::interpret {

using x86::Exception;
namespace rflags = x86::rflags;

void replace_flags(Cpu& cpu, uint64_t value, uint64_t mask) {
  const uint64_t before = cpu.rflags();
  const uint64_t after = (before & ~mask) | (value & mask);
  cpu.set_rflags(after);
  if ((before ^ after) & (rflags::kAlignmentCheck | rflags::kVirtual8086)) cpu.update_mode();
  // An interrupt that waited for IF may be due now; TF asks for single steps.
  if (after & ~before & (rflags::kInterrupt | rflags::kTrap)) {
    cpu.attention.call();
    cpu.leave_block = true;
  }
}

namespace {

void require_io_privilege(const Cpu& cpu) {
  const bool allowed = cpu.virtual_8086 ? io_privilege(cpu) == 3 : cpu.cpl <= io_privilege(cpu);
  if (!allowed) Cpu::raise(Exception::general_protection());
}

void set_alignment_check(Cpu& cpu, bool value) {
  // CR4.SMAP cannot be set without the feature, and spares the look-up.
  const bool exists = (cpu.system.cr4 & x86::cr4::kSmap) || has_feature(cpu, Feature::kSmap);
  if (cpu.cpl != 0 || !exists) Cpu::raise(Exception::invalid_opcode());
  if (cpu.flag(rflags::kAlignmentCheck) == value) return;
  cpu.flags_rest ^= rflags::kAlignmentCheck;
  // The MMU alone depends on AC: the decoded block stays good.
  const bool leave = cpu.leave_block;
  cpu.update_mode();
  cpu.leave_block = leave;
}

}  // namespace

void clear_interrupt_flag(Cpu& cpu, const Operation&) {
  require_io_privilege(cpu);
  cpu.flags_rest &= ~rflags::kInterrupt;
}

void set_interrupt_flag(Cpu& cpu, const Operation&) {
  require_io_privilege(cpu);
  if (cpu.flag(rflags::kInterrupt)) return;
  cpu.flags_rest |= rflags::kInterrupt;
  cpu.activity.sti_shadow = true;
  cpu.attention.call();
  cpu.leave_block = true;
}

void set_ac(Cpu& cpu, const Operation&) { set_alignment_check(cpu, true); }
void clear_ac(Cpu& cpu, const Operation&) { set_alignment_check(cpu, false); }

void push_flags(Cpu& cpu, const Operation& operation) {
  if (cpu.virtual_8086 && io_privilege(cpu) < 3) Cpu::raise(Exception::general_protection());
  const uint64_t image = cpu.rflags() & ~(rflags::kVirtual8086 | rflags::kResume);
  switch (operation.operand_size) {
    case 2:
      return push<uint16_t>(cpu, static_cast<uint16_t>(image));
    case 4:
      return push<uint32_t>(cpu, static_cast<uint32_t>(image));
    default:
      return push<uint64_t>(cpu, image);
  }
}

void pop_flags(Cpu& cpu, const Operation& operation) {
  if (cpu.virtual_8086 && io_privilege(cpu) < 3) Cpu::raise(Exception::general_protection());
  const unsigned size = operation.operand_size;
  const uint64_t value = size == 2   ? pop<uint16_t>(cpu)
                         : size == 4 ? pop<uint32_t>(cpu)
                                     : pop<uint64_t>(cpu);
  uint64_t mask = rflags::kArithmetic | rflags::kTrap | rflags::kDirection | rflags::kNestedTask;
  if (size != 2) mask |= rflags::kAlignmentCheck | rflags::kIdentification;
  if (cpu.virtual_8086 || cpu.cpl <= io_privilege(cpu)) mask |= rflags::kInterrupt;
  if (!cpu.virtual_8086 && cpu.cpl == 0) mask |= rflags::kIopl;
  cpu.flags_rest &= ~rflags::kResume;
  replace_flags(cpu, value, mask);
}

}  // namespace limen::soft::interpret
