// Linear addresses to memory: guest paging, the soft TLB in front of it, and the access functions
// through which every handler of the interpreter reads and writes guest memory.
//
// INTERFACE SKETCH: the accessors below are what the rest of the engine calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "memory/guest_memory.h"
#include "memory/io_space.h"
#include "x86/exception.h"

namespace limen::soft {

/// What decides how a linear address is translated and what an access may do.
struct MmuMode {
  uint64_t cr0 = 0, cr3 = 0, cr4 = 0, efer = 0;
  bool user = false;             ///< CPL 3.
  bool alignment_check = false;  ///< RFLAGS.AC: at CPL 0-2 it lifts SMAP.
};

/// All accessors take a linear address, act with the privilege of the current mode, handle page
/// crossings and MMIO, and throw x86::Exception (#PF, or #GP(0) for a non-canonical address) before
/// anything was changed.
class Mmu {
 public:
  Mmu(memory::GuestMemory& ram, memory::IoSpace& mmio);

  void set_mode(const MmuMode& mode);

  template <typename T>
  T read(uint64_t linear);
  template <typename T>
  void write(uint64_t linear, T value);
  /// Implicit supervisor accesses (descriptor tables, TSS), whatever CPL is (SDM Vol. 3A 4.6.1).
  template <typename T>
  T read_supervisor(uint64_t linear);
  template <typename T>
  void write_supervisor(uint64_t linear, T value);

  void read_bytes(uint64_t linear, std::span<std::byte> into);
  void write_bytes(uint64_t linear, std::span<const std::byte> from);

  /// Host address of [linear, linear + size) for a direct access, or nullptr when it is MMIO,
  /// crosses a page, or writing it needs more than a store (code page, watched page).
  std::byte* host_for_read(uint64_t linear, unsigned size);
  std::byte* host_for_write(uint64_t linear, unsigned size);

  /// Throws what a write (read) of these bytes would throw; changes nothing but A and D bits.
  void probe_write(uint64_t linear, unsigned size);
  void probe_read(uint64_t linear, unsigned size);

  void flush_all();
};

}  // namespace limen::soft
