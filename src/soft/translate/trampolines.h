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
  /// Puts RAX and flags back and jumps to the host address in R10.
  CodeOffset go_on_restoring = 0;
  // Call a function of quiet.h with R10 (the address) and R11 (the CallSite), and go on as it says.
  CodeOffset miss = 0;
  CodeOffset string = 0;
  CodeOffset revalidate = 0;
  CodeOffset lookup = 0;  ///< R11 does not matter.
};

Trampolines emit_trampolines(Assembler& out, const CpuLayout& layout);

}  // namespace limen::soft::translate
