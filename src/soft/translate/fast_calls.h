// What SYSCALL and SYSRET do in translated code, made ready from the MSRs.
#pragma once

#include <cstdint>

#include "x86/cpu_state.h"

namespace limen::soft::translate {

struct FastCalls {
  bool call = false;           ///< Translated code may do SYSCALL at CPL 3 by what stands here.
  bool system_return = false;  ///< The same for SYSRET to 64-bit code.
  uint64_t kept_flags = 0;     ///< Of Cpu::flags_rest; SYSCALL clears every arithmetic flag.
  // Selector, attributes and limit as they stand in x86::Segment; bases are 0.
  uint64_t call_code = 0;
  uint64_t call_stack = 0;
  uint64_t return_code = 0;
  uint64_t return_stack = 0;

  /// Costs little where nothing has changed.
  void update(const x86::SystemState& system) {
    if (system.efer != efer_ || system.star != star_ || system.fmask != fmask_) prepare(system);
  }

 private:
  void prepare(const x86::SystemState& system);

  // What this was made from.
  uint64_t efer_ = 0;
  uint64_t star_ = 0;
  uint64_t fmask_ = 0;
};

}  // namespace limen::soft::translate
