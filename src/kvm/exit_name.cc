#include "kvm/exit_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "kvm/kernel.h"

namespace limen::kvm {
namespace {

using Name = std::pair<uint32_t, std::string_view>;
constexpr std::array kNames = {
    Name{KVM_EXIT_UNKNOWN, "KVM_EXIT_UNKNOWN"},
    Name{KVM_EXIT_EXCEPTION, "KVM_EXIT_EXCEPTION"},
    Name{KVM_EXIT_IO, "KVM_EXIT_IO"},
    Name{KVM_EXIT_HYPERCALL, "KVM_EXIT_HYPERCALL"},
    Name{KVM_EXIT_DEBUG, "KVM_EXIT_DEBUG"},
    Name{KVM_EXIT_HLT, "KVM_EXIT_HLT"},
    Name{KVM_EXIT_MMIO, "KVM_EXIT_MMIO"},
    Name{KVM_EXIT_IRQ_WINDOW_OPEN, "KVM_EXIT_IRQ_WINDOW_OPEN"},
    Name{KVM_EXIT_SHUTDOWN, "KVM_EXIT_SHUTDOWN"},
    Name{KVM_EXIT_FAIL_ENTRY, "KVM_EXIT_FAIL_ENTRY"},
    Name{KVM_EXIT_INTR, "KVM_EXIT_INTR"},
    Name{KVM_EXIT_SET_TPR, "KVM_EXIT_SET_TPR"},
    Name{KVM_EXIT_TPR_ACCESS, "KVM_EXIT_TPR_ACCESS"},
    Name{KVM_EXIT_NMI, "KVM_EXIT_NMI"},
    Name{KVM_EXIT_INTERNAL_ERROR, "KVM_EXIT_INTERNAL_ERROR"},
    Name{KVM_EXIT_SYSTEM_EVENT, "KVM_EXIT_SYSTEM_EVENT"},
    Name{KVM_EXIT_IOAPIC_EOI, "KVM_EXIT_IOAPIC_EOI"},
    Name{KVM_EXIT_HYPERV, "KVM_EXIT_HYPERV"},
    Name{KVM_EXIT_X86_RDMSR, "KVM_EXIT_X86_RDMSR"},
    Name{KVM_EXIT_X86_WRMSR, "KVM_EXIT_X86_WRMSR"},
    Name{KVM_EXIT_DIRTY_RING_FULL, "KVM_EXIT_DIRTY_RING_FULL"},
    Name{KVM_EXIT_X86_BUS_LOCK, "KVM_EXIT_X86_BUS_LOCK"},
    Name{KVM_EXIT_XEN, "KVM_EXIT_XEN"},
    Name{KVM_EXIT_NOTIFY, "KVM_EXIT_NOTIFY"},
};

}  // namespace

std::string exit_name(uint32_t reason) {
  const auto known = std::ranges::find(kNames, reason, &Name::first);
  return known != kNames.end() ? std::string(known->second) : fmt::format("exit {}", reason);
}

}  // namespace limen::kvm
