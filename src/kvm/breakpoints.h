// Breakpoints in memory: INT3 in the place of an instruction's first byte.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>

#include "base/result.h"
#include "memory/guest_memory.h"
#include "x86/address.h"

namespace limen::kvm {

/// Those of one machine, by guest-physical address. Memory has them only while a processor runs
/// that wants them, so that whoever looks at a machine that stands still sees the guest's own
/// bytes. Thread-safe.
class Breakpoints {
 public:
  explicit Breakpoints(memory::GuestMemory& memory) : memory_(memory) {}

  /// A processor that wants one there runs, or no longer.
  Result<> insert(GuestPhysicalAddress address);
  void remove(GuestPhysicalAddress address);
  /// A processor runs the instruction there, or has: meanwhile memory has its own byte, for others
  /// as well.
  void lift(GuestPhysicalAddress address);
  void drop(GuestPhysicalAddress address);

 private:
  static constexpr auto kInt3 = std::byte{0xCC};

  struct Place {
    std::byte own{};
    unsigned wanted = 0;  ///< By how many processors.
    unsigned lifted = 0;  ///< The same.
  };

  /// Puts the guest's byte back, unless it was written over.
  void restore(GuestPhysicalAddress address, const Place& place);
  void write(GuestPhysicalAddress address, std::byte value);

  memory::GuestMemory& memory_;
  std::mutex mutex_;
  std::map<uint64_t, Place> places_;  // guarded by mutex_
};

}  // namespace limen::kvm
