// KVM's paravirtual end of interrupt (Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_PV_EOI_EN).
#pragma once

#include <cstdint>

#include "memory/guest_memory.h"

namespace limen::irq {

/// The flag in the guest's memory that is set while the interrupt in service may be ended by
/// clearing it in place of a write to the EOI register. To be used on the thread of the processor
/// whose guest it is: that changes the flag by one instruction, without a lock.
class PvEoi {
 public:
  explicit PvEoi(memory::GuestMemory& ram) : ram_(ram) {}

  [[nodiscard]] uint64_t value() const { return value_; }
  /// The register is written: address and enable bit. False: a reserved bit is set, or no RAM is
  /// there. Nothing may be offered.
  [[nodiscard]] bool set(uint64_t value);
  /// No flag, and nothing offered; memory stays as it is.
  void reset();

  /// Sets the flag, if there is one.
  void offer();
  [[nodiscard]] bool offered() const { return offered_; }
  /// Clears the flag. True: the guest had done so, and thereby ended the interrupt.
  [[nodiscard]] bool take_back();

 private:
  memory::GuestMemory& ram_;
  uint64_t value_ = 0;
  std::byte* flag_ = nullptr;  // inside RAM
  bool offered_ = false;
};

}  // namespace limen::irq
