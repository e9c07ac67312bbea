// The accelerators of this build, by name.
#pragma once

#include <memory>
#include <string_view>

#include "base/result.h"
#include "vcpu/accelerator.h"

namespace limen::machine {

Result<std::unique_ptr<vcpu::Accelerator>> create_accelerator(std::string_view name);

}  // namespace limen::machine
