// The accelerators of this build, by name.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "machine/description.h"
#include "vcpu/accelerator.h"

namespace limen::machine {

/// Errors name what of the description cannot be had.
Result<std::unique_ptr<vcpu::Accelerator>> create_accelerator(
    const MachineDescription& description);

/// Why accelerator 'kvm' is not to be had here, with the remedy; nothing: it is.
[[nodiscard]] std::optional<std::string> why_not_kvm();

/// What accelerators can log, as QEMU's -d spells it.
struct LogItem {
  std::string_view name;
  std::string_view help;
};
[[nodiscard]] std::span<const LogItem> log_items();

}  // namespace limen::machine
