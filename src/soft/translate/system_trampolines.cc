// SYSCALL, SYSRET, and the ways on into code of another privilege level: written once, for all
// blocks. In the terms of Cpu::update_mode() they change CS, SS, CPL, the MMU's view and nothing
// else.
#include "soft/translate/emitter.h"
#include "soft/translate/trampolines.h"

namespace limen::soft::translate {
namespace {

namespace flags = x86::rflags;

class SystemCode {
 public:
  SystemCode(Assembler& out, const CpuLayout& layout, const Trampolines& made)
      : out_(out), layout_(layout), made_(made) {}

  CodeOffset system_call();
  CodeOffset system_return();
  CodeOffset go_on(bool user);
  CodeOffset go_on_restoring(bool user);

 private:
  static constexpr size_t kUser = 2;  // in PrivilegeSwitch

  CodeOffset begin() {
    out_.align(64);
    leaves_.clear();
    return out_.here();
  }
  /// R11: the site. Keeps it and the flags for leave().
  void save() {
    out_.cpu_store(layout_.temporary, kR11);
    out_.cpu_store(layout_.saved_rax, kRax);
    out_.flags_to_ax();
  }
  void restore() {
    out_.flags_from_ax();
    out_.cpu_load(kRax, layout_.saved_rax);
  }
  void leave_if(Condition condition) { leaves_.push_back(out_.jump_if(condition)); }
  void emit_leaves() {
    for (const CodeOffset place : leaves_) out_.patch(place, out_.here());
    out_.cpu_load(kR10, layout_.temporary);
    out_.jump(made_.exit_instruction_restoring);
  }
  void load_segment(size_t segment, int32_t from) {
    const int32_t to = layout_.system.segments[segment];
    out_.cpu_load(kR10, from);
    out_.cpu_store(to, kR10);
    out_.cpu_clear(to + static_cast<int32_t>(offsetof(x86::Segment, base)));
  }
  void set_privilege(size_t choice);
  void jump_to_r10(bool user) {
    out_.movzx16(kR11, kR10);
    out_.gs_jump_indexed(kR11, layout_.jump_table[JumpTables::table_of(user, false)]);
  }

  Assembler& out_;
  const CpuLayout& layout_;
  const Trampolines& made_;
  std::vector<CodeOffset> leaves_;
};

/// RFLAGS.AC is clear before and behind it.
void SystemCode::set_privilege(size_t choice) {
  const SystemLayout& system = layout_.system;
  out_.cpu_move8(system.cpl, choice == kUser ? 3 : 0);
  out_.cpu_move8(system.user, choice == kUser ? 1 : 0);
  out_.cpu_move8(system.alignment_check, 0);
  out_.cpu_load(kR10, system.chosen_data[choice]);
  out_.cpu_store(system.data, kR10);
  out_.cpu_load(kR10, system.chosen_fetch[choice]);
  out_.cpu_store(system.fetch, kR10);
  out_.cpu_load8(kR10, system.chosen_view[choice]);
  out_.cpu_store8(system.view, kR10);
}

/// R10: the next instruction's address; R11: the site. At CPL 3, TF and RF being clear.
CodeOffset SystemCode::system_call() {
  const SystemLayout& system = layout_.system;
  const CodeOffset at = begin();
  save();
  out_.cpu_test8(layout_.flags_rest + 2, static_cast<uint8_t>(flags::kAlignmentCheck >> 16));
  leave_if(Condition::kNotEqual);
  out_.cpu_cmp8(system.call, 0);
  leave_if(Condition::kEqual);
  out_.mov(kRcx, kR10);
  out_.mov(kR11, kRax);  // AL: OF, AH: the others of the low byte
  out_.movzx8(kR10, kR11);
  out_.shl32(kR10, 11);
  out_.shr32(kR11, 8);
  out_.movzx8(kR11, kR11);
  out_.lea(kR10, kR10, kR11, 0, 0);
  out_.cpu_load(kR11, layout_.flags_rest);
  out_.inclusive_or(kR10, kR11);
  out_.cpu_store(layout_.gpr(kR11), kR10);
  out_.cpu(true, {0x23}, kR11, system.kept_flags);  // AND
  out_.cpu_store(layout_.flags_rest, kR11);
  load_segment(x86::kCs, system.call_code);
  load_segment(x86::kSs, system.call_stack);
  set_privilege(0);
  out_.cpu_load(kRax, layout_.saved_rax);
  out_.cpu_load(kR10, system.lstar);
  // Adding 1 to 0 clears every arithmetic flag.
  out_.mov(kR11, uint64_t{0});
  out_.add32(kR11, 1);
  jump_to_r10(false);
  emit_leaves();
  return at;
}

/// R11: the site. At CPL 0, TF and RF being clear.
CodeOffset SystemCode::system_return() {
  const SystemLayout& system = layout_.system;
  // What SYSRET takes from R11, apart from the arithmetic flags (SDM Vol. 2B SYSRET).
  constexpr uint64_t kLoaded = 0x3C'7FD7 & ~uint64_t{0x8FF};
  const CodeOffset at = begin();
  save();
  out_.cpu_load(kR10, layout_.gpr(kR11));
  out_.test32(kR10, static_cast<uint32_t>(flags::kTrap | flags::kAlignmentCheck));
  leave_if(Condition::kNotEqual);
  out_.cpu_cmp8(system.system_return, 0);
  leave_if(Condition::kEqual);
  out_.cpu_cmp16(layout_.attention, 0);  // an interrupt that IF lets in
  leave_if(Condition::kNotEqual);
  out_.mov(kR11, kRcx);
  out_.shl(kR11, 16);
  out_.sar(kR11, 16);
  out_.cmp(kR11, kRcx);
  leave_if(Condition::kNotEqual);
  out_.mov(kRax, kR10);
  out_.and32(kR10, static_cast<uint32_t>(kLoaded));
  out_.cpu_store(layout_.flags_rest, kR10);
  out_.mov(kR10, kRax);
  out_.shl32(kRax, 8);
  out_.shr32(kR10, 11);
  out_.and32(kR10, 1);
  out_.inclusive_or(kRax, kR10);
  load_segment(x86::kCs, system.return_code);
  load_segment(x86::kSs, system.return_stack);
  set_privilege(kUser);
  restore();
  out_.mov(kR10, kRcx);
  jump_to_r10(true);
  emit_leaves();
  return at;
}

/// On at R10, all but flags being done.
CodeOffset SystemCode::go_on(bool user) {
  const CodeOffset at = begin();
  jump_to_r10(user);
  return at;
}

/// The same with the flags in AH and AL, RAX having been put aside.
CodeOffset SystemCode::go_on_restoring(bool user) {
  const CodeOffset at = begin();
  restore();
  jump_to_r10(user);
  return at;
}

}  // namespace

void emit_system_trampolines(Assembler& out, const CpuLayout& layout, Trampolines& made) {
  SystemCode code(out, layout, made);
  made.system_call = code.system_call();
  made.system_return = code.system_return();
  made.go_on_inside = code.go_on(false);
  made.go_on_inside_restoring = code.go_on_restoring(false);
  made.go_on_outside_restoring = code.go_on_restoring(true);
}

}  // namespace limen::soft::translate
