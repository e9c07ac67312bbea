// What translated code calls without giving up its vector registers: functions that are built
// without vector instructions and call nothing that is not (CMakeLists.txt).
#pragma once

#include <cstdint>

#include "soft/mmu/mmu.h"

namespace limen::soft {
struct Cpu;
}

namespace limen::soft::translate {

/// Stands behind the code that leads here, at any address.
struct [[gnu::packed]] CallSite {
  /// What is asked for, and what R10 is to be: of an access its host address or the difference of
  /// host and guest addresses, of a WindowSite the latter.
  enum class Of : uint16_t { kAddress, kDifference, kWindow, kStack };

  uint32_t site;             ///< make_site(), or a BlockId.
  uint32_t resume;           ///< Offset of the code to go on with.
  uint16_t size : 10;        ///< Bytes: of an access, of a window, of a string's element.
  uint16_t write : 1;        ///< An access that writes; a string instruction that does not read.
  uint16_t flags_saved : 1;  ///< RAX holds flags: what leaves translated code puts them back.
  uint16_t faults : 1;       ///< Where paging forbids the access, #PF is what is due.
  uint16_t polls : 1;        ///< kStack: what calls for attention may have it here.
  Of of : 2;
};
static_assert(sizeof(CallSite) == 10);

struct [[gnu::packed]] WindowSite : CallSite {
  uint32_t split;  ///< The code to go on with where it reaches over a page's end; 0: none yet.
};

/// In RAX and RDX.
struct Continuation {
  uint64_t r10;
  const uint8_t* code;
};

/// An access to `linear` found no entry. Fills one and goes on with what the site wants in R10, or
/// with the guest's handler of page faults, or leaves to the interpreter.
Continuation on_miss(Cpu* cpu, uint64_t linear, const CallSite* site) noexcept;

/// REP MOVS or REP STOS on Cpu::gpr: page by page, as long as that needs nothing else.
Continuation on_string(Cpu* cpu, uint64_t unused, const CallSite* site) noexcept;

/// A block was entered for `linear` and its home found right in another epoch or at another place.
/// Goes on with the block if it is right now, or with the one that is. Flags have been put aside.
Continuation on_revalidate(Cpu* cpu, uint64_t linear, const CallSite* site) noexcept;

/// The jump table does not lead to the code for `linear`. Looks whether there is some.
Continuation on_lookup(Cpu* cpu, uint64_t linear, const CallSite* unused) noexcept;

/// IRETQ at CPL 0, flags having been put aside: to 64-bit code at CPL 0 or 3.
Continuation on_interrupt_return(Cpu* cpu, uint64_t unused, const CallSite* site) noexcept;

/// MOV CR3.
Continuation on_load_cr3(Cpu* cpu, uint64_t value, const CallSite* site) noexcept;

/// INVLPG.
Continuation on_invalidate_page(Cpu* cpu, uint64_t linear, const CallSite* site) noexcept;

/// PAUSE: a processor that waits for another lets the others' threads run, as hardware with a limit
/// on PAUSE loops does (SDM Vol. 3C 26.1.3).
Continuation on_pause(Cpu* cpu, uint64_t unused, const CallSite* site) noexcept;

/// The guest's x87 state is to be in the host's registers. Flags are kept.
Continuation on_load_x87(Cpu* cpu, uint64_t unused, const CallSite* site) noexcept;

/// For these functions: the interpreter runs the instruction.
Continuation leave_to_interpreter(const Cpu& cpu, const CallSite& site) noexcept;
/// The instruction raises #PF: on with its handler, or to the interpreter where that is not simple.
Continuation deliver_page_fault(Cpu& cpu, const Mmu::QuickAccess& fault,
                                const CallSite& site) noexcept;

}  // namespace limen::soft::translate
