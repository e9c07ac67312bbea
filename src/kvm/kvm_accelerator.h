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
};

/// `-accel kvm`.
Result<std::unique_ptr<vcpu::Accelerator>> make_kvm_accelerator(std::shared_ptr<Device> device,
                                                                KvmOptions options = {});

}  // namespace limen::kvm
