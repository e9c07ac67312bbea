// The way into generated code and the ways out of it.
#pragma once

#include "soft/translate/assembler.h"
#include "soft/translate/context.h"

namespace limen::soft {
struct Cpu;
}

namespace limen::soft::translate {

struct CpuLayout;

/// Written once, at the start of the code cache. An exit is jumped to with its payload in R10 and
/// the guest's state in the host's registers.
struct Trampolines {
  /// Takes the guest's state from the Cpu that GS leads to and jumps to Context::target; returns
  /// when the code leaves by one of the exits, with reason and payload in the Context.
  CodeOffset enter = 0;
  CodeOffset exit_lookup = 0;
  CodeOffset exit_link = 0;
  CodeOffset exit_instruction = 0;
  CodeOffset exit_split = 0;
  CodeOffset exit_poll = 0;
  // The same when RAX and flags were put aside.
  CodeOffset exit_lookup_restoring = 0;
  CodeOffset exit_instruction_restoring = 0;
  CodeOffset exit_split_restoring = 0;
  CodeOffset exit_poll_restoring = 0;
  /// Puts RAX and flags back and jumps to the host address in R10.
  CodeOffset go_on_restoring = 0;
  /// The same to Context::onward.
  CodeOffset go_on_onward_restoring = 0;
  // Call a function of quiet.h with R10 (the address) and R11 (the CallSite), and go on as it says.
  CodeOffset miss = 0;
  CodeOffset window_miss = 0;  ///< The same for a WindowSite.
  /// Like `miss`, for a window that is not on the stack's page, flags being dead, or live and still
  /// in their place: looks into the bank first. Index: JumpTables::table_of().
  CodeOffset stack_miss[JumpTables::kTables] = {};
  CodeOffset stack_miss_keeping_flags[JumpTables::kTables] = {};
  CodeOffset string = 0;
  /// An entry was reached for which R10, the guest address, is another one's, or nothing has found
  /// it right as yet; RAX and flags were put aside. Looks for another entry first.
  CodeOffset revalidate[JumpTables::kTables] = {};
  CodeOffset lookup = 0;  ///< R11 does not matter.
  CodeOffset interrupt_return = 0;
  CodeOffset load_cr3 = 0;
  CodeOffset invalidate_page = 0;
  CodeOffset pause = 0;
  CodeOffset load_x87 = 0;  ///< R10 does not matter; flags are kept.
  // With the site in R11, and for SYSCALL the next instruction's address in R10.
  CodeOffset system_call = 0;
  CodeOffset system_return = 0;
  // On at the guest address in R10 at CPL 0 or 3; RAX and flags were put aside, or need nothing.
  CodeOffset go_on_inside = 0;
  CodeOffset go_on_inside_restoring = 0;
  CodeOffset go_on_outside_restoring = 0;
};

Trampolines emit_trampolines(Assembler& out, const CpuLayout& layout);
/// The part of them that system_trampolines.cc writes.
void emit_system_trampolines(Assembler& out, const CpuLayout& layout, Trampolines& made);

}  // namespace limen::soft::translate
