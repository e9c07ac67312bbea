// Exits by name.
#pragma once

#include <cstdint>
#include <string>

namespace limen::kvm {

/// Of kvm_run::exit_reason, as linux/kvm.h has it: "KVM_EXIT_MMIO"; "exit 77" for one that is newer
/// than this program.
[[nodiscard]] std::string exit_name(uint32_t reason);

}  // namespace limen::kvm
