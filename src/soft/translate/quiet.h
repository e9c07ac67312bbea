// What translated code calls without giving up its vector registers: functions that are built without
// vector instructions and call nothing that is not (CMakeLists.txt).
#pragma once

#include <cstdint>

namespace limen::soft {
struct Cpu;
}

namespace limen::soft::translate {

/// Stands behind the code that leads to a miss of the soft TLB.
struct MissSite {
  uint32_t site;
  uint32_t resume;  ///< Offset of the code to go on with, R10 being the host address.
  uint8_t size;     ///< Bytes.
  uint8_t write;
  uint8_t flags_saved;  ///< RAX holds flags: what goes to the interpreter puts them back first.
  uint8_t unused;
};

/// In RAX and RDX.
struct Continuation {
  uint64_t r10;
  const uint8_t* code;
};

/// An access to `linear` found no entry. Fills one and goes on, or leaves to the interpreter.
Continuation on_miss(Cpu* cpu, uint64_t linear, const MissSite* site) noexcept;

}  // namespace limen::soft::translate
