#include "soft/translate/trampolines.h"

#include <array>

#include "soft/interpret/native/host.h"
#include "soft/translate/emitter.h"

namespace limen::soft::translate {
namespace {

constexpr std::array kKept = {kRbx, kRbp, kR12, kR13, kR14, kR15};

void push(Assembler& out, Reg reg) {
  if (reg > 7) out.byte(0x41);
  out.byte(0x50u | (reg & 7u));
}
void pop(Assembler& out, Reg reg) {
  if (reg > 7) out.byte(0x41);
  out.byte(0x58u | (reg & 7u));
}

enum class Direction : uint8_t { kLoad, kStore };

/// Every vector register that the host has, to or from VectorState.
void move_vectors(Assembler& out, const CpuLayout& layout, Direction direction) {
  const auto& host = interpret::native::host_features();
  const bool store = direction == Direction::kStore;
  const uint8_t opcode = store ? 0x29 : 0x28;  // MOVAPS
  const auto address = [&](unsigned reg, int32_t displacement) {
    out.byte(((reg & 7u) << 3) | 4u);
    out.byte(0x25);
    out.dword(static_cast<uint32_t>(displacement));
  };
  const unsigned count = host.avx512f ? 32 : 16;
  for (unsigned reg = 0; reg < count; ++reg) {
    const int32_t at = layout.vector + static_cast<int32_t>(64 * reg);
    out.byte(0x65);
    if (host.avx512f) {
      out.byte(0x62);
      out.byte(0x61u | ((reg & 8u) ? 0u : 0x80u) | ((reg & 16u) ? 0u : 0x10u));
      out.byte(0x7C);
      out.byte(0x48);
    } else if (host.avx) {
      out.byte(0xC5);
      out.byte(0x7Cu | (reg < 8 ? 0x80u : 0u));
    } else {
      if (reg > 7) out.byte(0x44);
      out.byte(0x0F);
    }
    out.byte(opcode);
    address(reg, at);
  }
  if (!host.avx512f) return;
  for (unsigned reg = 0; reg < 8; ++reg) {
    // KMOVQ needs AVX512BW; KMOVW is AVX512F.
    out.byte(0x65);
    if (host.avx512bw) {
      out.byte(0xC4);
      out.byte(0xE1);
      out.byte(0xF8);
    } else {
      out.byte(0xC5);
      out.byte(0xF8);
    }
    out.byte(store ? 0x91 : 0x90);
    address(reg, layout.opmask + static_cast<int32_t>(8 * reg));
  }
}

/// ZF: the upper halves of the guest's YMM0 to YMM15, and what lies above them, are zero. Changes
/// ZMM0, K1 and RAX.
void test_upper_halves(Assembler& out, const CpuLayout& layout) {
  const bool wide = interpret::native::host_features().avx512f;
  for (unsigned reg = 0; reg < 16; ++reg) {
    out.byte(0x65);
    if (wide) {
      for (const unsigned byte : {0x62, 0xF1, 0xFD, 0x48}) out.byte(byte);
      out.byte(reg == 0 ? 0x28 : 0xEB);  // VMOVAPD ZMM0, m; VPORQ ZMM0, ZMM0, m
    } else {
      for (const unsigned byte : {0xC5, 0xFC}) out.byte(byte);
      out.byte(reg == 0 ? 0x28 : 0x56);  // VMOVAPS YMM0, m; VORPS YMM0, YMM0, m
    }
    out.byte(0x04);
    out.byte(0x25);
    out.dword(static_cast<uint32_t>(layout.vector + static_cast<int32_t>(64 * reg)));
  }
  if (wide) {
    constexpr uint32_t kAboveXmm = 0xFC;
    for (const unsigned byte : {0x62, 0xF2, 0xFD, 0x48, 0x27, 0xC8}) out.byte(byte);  // VPTESTMQ K1
    for (const unsigned byte : {0xC5, 0xF8, 0x93, 0xC1}) out.byte(byte);  // KMOVW EAX, K1
    out.test32(kRax, kAboveXmm);
  } else {
    for (const unsigned byte : {0xC4, 0xE3, 0x7D, 0x19, 0xC0, 0x01})
      out.byte(byte);                                                           // VEXTRACTF128
    for (const unsigned byte : {0xC4, 0xE2, 0x79, 0x17, 0xC0}) out.byte(byte);  // VPTEST
  }
}

/// Loading a register as a whole makes the processor take its upper half for used, even if it is
/// zero: then each SSE instruction that writes a part of the register waits for the rest of it.
void load_vectors(Assembler& out, const CpuLayout& layout) {
  if (!interpret::native::host_features().avx) return move_vectors(out, layout, Direction::kLoad);
  test_upper_halves(out, layout);
  move_vectors(out, layout, Direction::kLoad);
  const CodeOffset used = out.jump_if(Condition::kNotEqual);
  for (const unsigned byte : {0xC5, 0xF8, 0x77}) out.byte(byte);  // VZEROUPPER
  out.patch(used, out.here());
}

void emit_enter(Assembler& out, const CpuLayout& layout) {
  for (const Reg reg : kKept) push(out, reg);
  push(out, kRax);  // keeps the stack aligned
  out.cpu_store(layout.host_rsp, kRsp);
  load_vectors(out, layout);
  // Loading MXCSR costs far more than finding that it is right already.
  out.cpu(false, {0x0F, 0xAE}, static_cast<Reg>(3), layout.scratch_mxcsr);  // STMXCSR
  out.cpu(false, {0x8B}, kRax, layout.scratch_mxcsr);
  out.cpu(false, {0x3B}, kRax, layout.mxcsr);
  const CodeOffset same = out.jump_if(static_cast<uint8_t>(Condition::kEqual));
  out.cpu(false, {0x0F, 0xAE}, static_cast<Reg>(2), layout.mxcsr);  // LDMXCSR
  out.patch(same, out.here());
  out.cpu_load8(kRax, layout.flags_overflow);
  out.cpu(false, {0x8A}, static_cast<Reg>(4), layout.flags_low);  // MOV AH
  out.flags_from_ax();
  for (unsigned reg = 0; reg < 16; ++reg)
    if (reg != kR10 && reg != kR11) out.cpu_load(static_cast<Reg>(reg), layout.gpr(reg));
  out.cpu_jump(layout.target);
}

/// Every exit ends here, with its reason in R11.
void emit_leave(Assembler& out, const CpuLayout& layout) {
  out.cpu_store(layout.payload, kR10);
  out.cpu_store(layout.reason, kR11);
  for (unsigned reg = 0; reg < 16; ++reg)
    if (reg != kR10 && reg != kR11) out.cpu_store(layout.gpr(reg), static_cast<Reg>(reg));
  out.flags_to_ax();
  out.cpu_store8(layout.flags_overflow, kRax);
  out.cpu(false, {0x88}, static_cast<Reg>(4), layout.flags_low);  // MOV from AH
  out.cpu_load(kRsp, layout.host_rsp);
  move_vectors(out, layout, Direction::kStore);
  out.cpu(false, {0x0F, 0xAE}, static_cast<Reg>(3), layout.mxcsr);  // STMXCSR
  out.cpu(false, {0x8B}, kRax, layout.mxcsr);
  out.and32(kRax, ~0x3Fu);  // the exception flags do not matter to compiled code
  out.cpu(false, {0x3B}, kRax, layout.default_mxcsr);
  const CodeOffset usual = out.jump_if(static_cast<uint8_t>(Condition::kEqual));
  out.cpu(false, {0x0F, 0xAE}, static_cast<Reg>(2), layout.default_mxcsr);  // LDMXCSR
  out.patch(usual, out.here());
  if (interpret::native::host_features().avx) {
    out.byte(0xC5);  // VZEROUPPER
    out.byte(0xF8);
    out.byte(0x77);
  }
  pop(out, kRax);
  for (auto reg = kKept.rbegin(); reg != kKept.rend(); ++reg) pop(out, *reg);
  out.byte(0xC3);
}

/// Registers that a function of the System V ABI may change, but for the translator's own.
constexpr std::array kChanged = {kRax, kRcx, kRdx, kRsi, kRdi, kR8, kR9};

void restore_flags(Assembler& out, const CpuLayout& layout) {
  out.flags_from_ax();
  out.cpu_load(kRax, layout.saved_rax);
}

void save_flags(Assembler& out, const CpuLayout& layout) {
  out.cpu_store(layout.saved_rax, kRax);
  out.flags_to_ax();
}

/// Goes on with R11 zero: where an access looks for R10 + R11, R10 is all of it.
CodeOffset emit_quiet_call(Assembler& out, const CpuLayout& layout, int32_t function,
                           bool keeps_flags = false) {
  out.align(64);
  const CodeOffset at = out.here();
  if (keeps_flags) save_flags(out, layout);
  for (const Reg reg : kChanged) out.cpu_store(layout.gpr(reg), reg);
  out.cpu_store(layout.gpr(kRsp), kRsp);
  out.cpu_load(kRsp, layout.host_rsp);
  out.cpu_load(kRdi, layout.cpu);
  out.mov(kRsi, kR10);
  out.mov(kRdx, kR11);
  out.cpu(false, {0xFF}, static_cast<Reg>(2), function);  // CALL
  out.mov(kR10, kRax);
  out.cpu_store(layout.target, kRdx);
  for (const Reg reg : kChanged) out.cpu_load(reg, layout.gpr(reg));
  out.cpu_load(kRsp, layout.gpr(kRsp));
  if (keeps_flags) restore_flags(out, layout);
  out.mov(kR11, uint64_t{0});
  out.cpu_jump(layout.target);
  return at;
}

/// An exit for code that has put RAX and flags aside.
CodeOffset emit_restoring(Assembler& out, const CpuLayout& layout, CodeOffset exit) {
  const CodeOffset at = out.here();
  restore_flags(out, layout);
  out.jump(exit);
  return at;
}

CodeOffset emit_go_on_restoring(Assembler& out, const CpuLayout& layout) {
  const CodeOffset at = out.here();
  restore_flags(out, layout);
  out.jump_register(kR10);
  return at;
}

CodeOffset emit_go_on_onward_restoring(Assembler& out, const CpuLayout& layout) {
  const CodeOffset at = out.here();
  restore_flags(out, layout);
  out.cpu_jump(layout.onward);
  return at;
}

/// Two registers put aside while a trampoline uses them.
class Borrowed {
 public:
  Borrowed(Assembler& out, const CpuLayout& layout, Reg first, Reg second)
      : out_(out), layout_(layout), regs_{first, second} {
    for (unsigned i = 0; i < 2; ++i) out_.cpu_store(layout_.scratch[i], regs_[i]);
  }
  void give_back() const {
    for (unsigned i = 0; i < 2; ++i) out_.cpu_load(regs_[i], layout_.scratch[i]);
  }

 private:
  Assembler& out_;
  const CpuLayout& layout_;
  std::array<Reg, 2> regs_;
};

// CallSite::size and what stands beside it, which has no address.
constexpr int32_t kCallBits = 2 * sizeof(uint32_t);
constexpr uint32_t kCallSize = 0x3FF, kCallFlagsSaved = 1u << 11, kCallPolls = 1u << 13;

/// R10: the window's address; R11: its WindowSite. One that reaches over its page's end, as a frame
/// of the stack may in every call of a function, goes to the code without windows if that is there.
CodeOffset emit_window_miss(Assembler& out, const CpuLayout& layout, const Trampolines& made) {
  out.align(64);
  const CodeOffset at = out.here();
  const Borrowed borrowed(out, layout, kRcx, kRdx);
  out.load32(kRdx, kR11, kCallBits);
  out.mov32(kRcx, kR10);
  out.and32(kRcx, 0xFFF);
  out.and32(kRdx, kCallSize);
  out.lea(kRcx, kRcx, kRdx, 0, 0);
  out.cmp(kRcx, 4096);
  const CodeOffset crosses = out.jump_if(Condition::kAbove);
  const CodeOffset slowly = out.here();
  borrowed.give_back();
  out.jump(made.miss);
  out.patch(crosses, out.here());
  out.load32(kRcx, kR11, sizeof(CallSite));  // WindowSite::split
  out.test32(kRcx, ~uint32_t{0});
  out.jump_if(Condition::kEqual, slowly);
  out.cpu_add(kRcx, layout.code);
  out.mov(kR10, kRcx);
  out.load32(kRdx, kR11, kCallBits);
  out.test32(kRdx, kCallFlagsSaved);
  borrowed.give_back();
  out.jump_if(Condition::kNotEqual, made.go_on_restoring);
  out.jump_register(kR10);
  return at;
}

/// R10: the window's address; R11: its WindowSite. The bank may have the page, if the stack has
/// moved from one page to another. At CPL 0 it is the bank without RFLAGS.AC, whose pages can be
/// used with it, too.
CodeOffset emit_stack_miss(Assembler& out, const CpuLayout& layout, const Trampolines& made,
                           bool user, bool code32, bool keeps_flags) {
  constexpr int32_t kWriteTag = offsetof(DataEntry, write_tag),
                    kDifference = offsetof(DataEntry, difference);
  const int32_t stack = layout.stack_page[user ? 1 : 0];
  const int32_t minus_page = stack + static_cast<int32_t>(offsetof(StackPage, minus_page));
  out.align(64);
  const CodeOffset at = out.here();
  if (keeps_flags) save_flags(out, layout);
  const Borrowed borrowed(out, layout, kRax, kRcx);
  CodeOffset edge = 0;
  if (code32) {
    out.mov(kRcx, (uint64_t{1} << 32) - 2 * kEdge - 1);
    out.lea(kRax, kR10, -static_cast<int32_t>(kEdge));
    out.cmp(kRax, kRcx);
    edge = out.jump_if(Condition::kAbove);
  }
  out.mov32(kRax, kR10);
  out.shr32(kRax, 12 - 5);
  out.and32(kRax, static_cast<uint32_t>(DataBank::kMask) << 5);
  out.cpu_add(kRax, user ? layout.data_bank : layout.ac.chosen_data[0]);
  out.load32(kRcx, kR11, kCallBits);
  out.and32(kRcx, kCallSize);
  out.neg(kRcx);
  out.lea(kRcx, kRcx, 4096);
  out.sub_memory(kR10, kRax, kWriteTag);
  out.cmp(kR10, kRcx);
  const CodeOffset unknown = out.jump_if(Condition::kAbove);
  out.load(kR10, kRax, kDifference);
  out.cpu_store(stack + static_cast<int32_t>(offsetof(StackPage, difference)), kR10);
  out.load(kRcx, kRax, kWriteTag);
  out.neg(kRcx);
  // XCHG: what follows does not look before the page is seen by those who call for attention.
  out.cpu(true, {0x87}, kRcx, minus_page);
  out.cpu_cmp8(layout.attention, 0);
  const CodeOffset called = out.jump_if(Condition::kNotEqual);
  const CodeOffset go_on = out.here();
  out.load32(kR11, kR11, offsetof(CallSite, resume));
  out.cpu_add(kR11, layout.code);
  borrowed.give_back();
  if (keeps_flags) restore_flags(out, layout);
  out.jump_register(kR11);
  out.patch(called, out.here());
  out.mov(kRcx, StackPage::kNowhere);
  out.cpu_store(minus_page, kRcx);
  out.load32(kRcx, kR11, kCallBits);
  out.test32(kRcx, kCallPolls);
  out.jump_if(Condition::kEqual, go_on);
  out.load32(kR10, kR11, offsetof(CallSite, site));
  borrowed.give_back();
  out.jump(keeps_flags ? made.exit_poll_restoring : made.exit_poll);
  out.patch(unknown, out.here());
  out.add_memory(kR10, kRax, kWriteTag);
  if (edge != 0) out.patch(edge, out.here());
  borrowed.give_back();
  out.jump(made.window_miss);
  return at;
}

/// `slowly`: what finds every block.
CodeOffset emit_revalidate(Assembler& out, const CpuLayout& layout, CodeOffset slowly,
                           size_t table) {
  using Other = JumpTables::Other;
  static_assert(sizeof(Other) == 16);
  const int32_t others = layout.other_entries[table];
  const auto field = [&](size_t offset) { return others + static_cast<int32_t>(offset); };
  out.align(64);
  const CodeOffset at = out.here();
  const Borrowed borrowed(out, layout, kRcx, kRdx);
  out.mov32(kRcx, kR10);  // JumpTables::other_index()
  out.shr32(kRcx, 16);
  out.exclusive_or(kRcx, kR10);
  out.and32(kRcx, JumpTables::kOthers - 1);
  out.shl32(kRcx, 4);
  out.gs().cmp_memory(kR10, kRcx, field(offsetof(Other, linear)));
  const CodeOffset unknown = out.jump_if(Condition::kNotEqual);
  out.gs().load32(kRdx, kRcx, field(offsetof(Other, body)));
  out.cmp32_memory(kRdx, kR11, offsetof(CallSite, resume));
  const CodeOffset same = out.jump_if(Condition::kEqual);
  out.gs().load32(kRcx, kRcx, field(offsetof(Other, entry)));
  out.cpu_add(kRcx, layout.code);
  out.movzx16(kRdx, kR10);
  out.gs_store_indexed(kRdx, layout.jump_table[table], kRcx);
  out.mov(kR11, kRcx);
  borrowed.give_back();
  restore_flags(out, layout);
  out.jump_register(kR11);
  out.patch(unknown, out.here());
  out.patch(same, out.here());
  borrowed.give_back();
  out.jump(slowly);
  return at;
}

CodeOffset emit_exit(Assembler& out, ExitReason reason, CodeOffset leave) {
  const CodeOffset at = out.here();
  out.mov(kR11, static_cast<uint64_t>(reason));
  out.jump(leave);
  return at;
}

}  // namespace

Trampolines emit_trampolines(Assembler& out, const CpuLayout& layout) {
  Trampolines made;
  out.align(64);
  made.enter = out.here();
  emit_enter(out, layout);
  out.align(64);
  const CodeOffset leave = out.here();
  emit_leave(out, layout);
  made.exit_lookup = emit_exit(out, ExitReason::kLookup, leave);
  made.exit_link = emit_exit(out, ExitReason::kLink, leave);
  made.exit_instruction = emit_exit(out, ExitReason::kInstruction, leave);
  made.exit_split = emit_exit(out, ExitReason::kSplit, leave);
  made.exit_poll = emit_exit(out, ExitReason::kPoll, leave);
  made.exit_instruction_restoring = emit_restoring(out, layout, made.exit_instruction);
  made.exit_lookup_restoring = emit_restoring(out, layout, made.exit_lookup);
  made.exit_poll_restoring = emit_restoring(out, layout, made.exit_poll);
  made.exit_split_restoring = emit_restoring(out, layout, made.exit_split);
  made.go_on_restoring = emit_go_on_restoring(out, layout);
  made.go_on_onward_restoring = emit_go_on_onward_restoring(out, layout);
  made.miss = emit_quiet_call(out, layout, layout.on_miss);
  made.window_miss = emit_window_miss(out, layout, made);
  for (const bool code32 : {false, true})
    for (const bool user : {false, true}) {
      const size_t table = JumpTables::table_of(user, code32);
      made.stack_miss[table] = emit_stack_miss(out, layout, made, user, code32, false);
      made.stack_miss_keeping_flags[table] = emit_stack_miss(out, layout, made, user, code32, true);
    }
  made.string = emit_quiet_call(out, layout, layout.on_string);
  made.lookup = emit_quiet_call(out, layout, layout.on_lookup, true);
  const CodeOffset revalidate = emit_quiet_call(out, layout, layout.on_revalidate);
  for (size_t table = 0; table < JumpTables::kTables; ++table)
    made.revalidate[table] = emit_revalidate(out, layout, revalidate, table);
  made.interrupt_return = emit_quiet_call(out, layout, layout.system.on_interrupt_return);
  made.load_cr3 = emit_quiet_call(out, layout, layout.system.on_load_cr3);
  made.invalidate_page = emit_quiet_call(out, layout, layout.system.on_invalidate_page);
  made.pause = emit_quiet_call(out, layout, layout.system.on_pause);
  made.load_x87 = emit_quiet_call(out, layout, layout.x87.on_load, true);
  emit_system_trampolines(out, layout, made);
  out.align(64);
  return made;
}

}  // namespace limen::soft::translate
