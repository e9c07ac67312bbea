// Writes that say nothing but "look": what an accelerator can turn into events.
#pragma once

#include <cstdint>
#include <optional>

namespace limen::memory {

/// A register of an IoHandler's that is only ever written to be noticed. Where somebody takes
/// doorbells (DoorbellTaker), such a write adds 1 to the eventfd(2) `event` and does not reach
/// io_write().
struct Doorbell {
  uint64_t offset = 0;                 ///< From the start of the claim.
  unsigned size = 4;                   ///< Of the write, in bytes.
  std::optional<uint64_t> value = {};  ///< Only a write of this one.
  int event = -1;
};

/// An accelerator that signals events for its processors (KVM_IOEVENTFD). Thread-safe.
class DoorbellTaker {
 public:
  virtual ~DoorbellTaker() = default;
  /// `address`: of the doorbell. One that cannot be taken reaches io_write() as before.
  virtual void take(uint64_t address, const Doorbell& doorbell) = 0;
  virtual void give_back(uint64_t address, const Doorbell& doorbell) = 0;
};

}  // namespace limen::memory
