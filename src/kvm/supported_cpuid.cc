#include "kvm/supported_cpuid.h"

#include "kvm/ioctl.h"
#include "kvm/kernel.h"
#include "kvm/listed.h"
#include "x86/cpu_features.h"
#include "x86/kvm_paravirtual.h"

namespace limen::kvm {
namespace {

/// Of the kernel's paravirtual features, those that its own local APIC does.
constexpr uint32_t kOfLocalApic =
    x86::kvm::kPvEoiFeature | x86::kvm::kUnhalt | x86::kvm::kSendIpi | x86::kvm::kAsyncPageFaults;

void set(x86::CpuidTable& table, std::string_view name, bool on) {
  x86::set_feature(table, *x86::find_cpu_feature(name), on);
}

}  // namespace

Result<x86::CpuidTable> supported_cpuid(const Device& device, bool kernel_local_apic) {
  auto table = LIMEN_TRY(device.raw_cpuid());
  set(table, "hypervisor", true);
  set(table, "x2apic", kernel_local_apic);
  // The kernel does not list it: it depends on where the timer is.
  set(table, "tsc-deadline", kernel_local_apic && device.extension(KVM_CAP_TSC_DEADLINE_TIMER) > 0);
  // A guest is not encrypted: one that saw SEV would read an MSR that it does not have (APM Vol. 3
  // E.4.17, "Encrypted Memory Capabilities").
  constexpr uint32_t kEncryptedMemory = 0x8000'001F;
  if (table.find(kEncryptedMemory, 0) != nullptr) table.set(kEncryptedMemory, 0, false, {});
  if (const auto* features = table.find(x86::kvm::kFeatureLeaf, 0);
      features && !kernel_local_apic) {
    auto without = *features;
    without.eax &= ~kOfLocalApic;
    table.set(x86::kvm::kFeatureLeaf, 0, false, without);
  }
  return table;
}

Result<> set_cpuid(int vcpu, const x86::CpuidTable& table) {
  Listed<kvm_cpuid2, kvm_cpuid_entry2> list(table.entries().size());
  for (const auto& entry : table.entries()) {
    kvm_cpuid_entry2& to = list->entries[list->nent++];
    to.function = entry.leaf;
    to.index = entry.subleaf;
    to.flags = entry.indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
    to.eax = entry.result.eax;
    to.ebx = entry.result.ebx;
    to.ecx = entry.result.ecx;
    to.edx = entry.result.edx;
  }
  LIMEN_TRY(try_call(vcpu, KVM_SET_CPUID2, "KVM_SET_CPUID2", list.get()));
  return {};
}

}  // namespace limen::kvm
