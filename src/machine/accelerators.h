// The accelerators of this build, by name.
#pragma once

#include <memory>
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

/// What choose_accelerator() knows.
[[nodiscard]] std::span<const std::string_view> accelerator_names();

/// Takes the first of `names` (between colons: soft, tcg, which is another name for it, kvm) that
/// this host has; what is passed over is said as a warning. kvm is passed over where a guest's
/// kernel is better off with what stands behind it, too (kvm/choice.h). The error says why the last
/// cannot be had, and what to do.
Result<std::string> choose_accelerator(std::string_view names);
/// Whether choose_accelerator("kvm:soft") takes kvm; found out once.
[[nodiscard]] bool kvm_is_the_choice();

/// What accelerators can log, as QEMU's -d spells it.
struct LogItem {
  std::string_view name;
  std::string_view help;
};
[[nodiscard]] std::span<const LogItem> log_items();

}  // namespace limen::machine
