// The accelerators of this build, by name.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "vcpu/accelerator.h"

namespace limen::machine {

Result<std::unique_ptr<vcpu::Accelerator>> create_accelerator(
    std::string_view name, const std::map<std::string, std::string>& properties);

}  // namespace limen::machine
