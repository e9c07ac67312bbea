// The kernel's hypervisor as an accelerator.
#pragma once

#include <memory>

#include "base/result.h"
#include "kvm/device.h"
#include "kvm/interrupt_chips.h"
#include "vcpu/accelerator.h"

namespace limen::kvm {

struct KvmOptions {
  IrqChip irqchip = IrqChip::kOn;
  /// Entries of the ring in which a processor notes what it writes, where the kernel has those; 0:
  /// bitmaps instead, as in QEMU. A back end that emulates many instructions at a time may overrun
  /// its ring, and bitmaps are safe everywhere.
  unsigned dirty_ring_size = 0;
};

/// `-accel kvm`.
Result<std::unique_ptr<vcpu::Accelerator>> make_kvm_accelerator(std::shared_ptr<Device> device,
                                                                KvmOptions options = {});

}  // namespace limen::kvm
