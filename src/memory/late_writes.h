// Writes that need not reach a device at once: what an accelerator can collect.
#pragma once

#include <cstdint>

namespace limen::memory {

/// A part of an IoHandler's claim whose writes change nothing that anybody sees without an access
/// of another kind. Where somebody takes late writes (LateWriteTaker), io_write() may be called
/// later than the guest wrote, by any processor's thread; the order of such writes is kept, and
/// they come before whatever else a processor asks of a device.
struct LateWrites {
  uint64_t offset = 0;  ///< From the start of the claim.
  uint64_t size = 0;    ///< Bytes. A write is late if it is within as a whole.
};

/// An accelerator that collects writes (KVM_REGISTER_COALESCED_MMIO). Thread-safe.
class LateWriteTaker {
 public:
  virtual ~LateWriteTaker() = default;
  /// What cannot be taken comes at once, as before.
  virtual void take(uint64_t address, uint64_t size) = 0;
  virtual void give_back(uint64_t address, uint64_t size) = 0;
  /// Gives the devices all that was written until now. Call without a lock that they need.
  virtual void deliver() = 0;
};

}  // namespace limen::memory
