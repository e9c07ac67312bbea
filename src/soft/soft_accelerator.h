// The software engine as an accelerator: needs nothing of the host but an x86-64 processor.
#pragma once

#include <memory>

#include "vcpu/accelerator.h"

namespace limen::soft {

/// `-accel soft`.
[[nodiscard]] std::unique_ptr<vcpu::Accelerator> make_soft_accelerator();

}  // namespace limen::soft
