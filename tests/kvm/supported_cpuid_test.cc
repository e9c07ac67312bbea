// What a guest of the kernel's is shown of its local APIC, by who has it.
#include "kvm/supported_cpuid.h"

#include <gtest/gtest.h>

#include "kvm/kvm_test.h"
#include "x86/cpu_features.h"
#include "x86/kvm_paravirtual.h"

namespace limen::kvm {
namespace {

class KvmSupportedCpuid : public KvmTest {
 protected:
  [[nodiscard]] x86::CpuidTable shown(bool kernel_local_apic) const {
    auto table = supported_cpuid(*device_, kernel_local_apic);
    EXPECT_TRUE(table) << table.error().message;
    return *std::move(table);
  }
};

TEST_F(KvmSupportedCpuid, HasTheHypervisorBitAlways) {
  for (const bool kernel_local_apic : {false, true})
    EXPECT_TRUE(x86::has_feature(shown(kernel_local_apic), "hypervisor"));
}

TEST_F(KvmSupportedCpuid, ShowsNoEncryptedMemory) {
  const auto table = shown(true);
  const auto* leaf = table.find(0x8000'001F, 0);
  if (leaf == nullptr) return;
  EXPECT_EQ(leaf->eax, 0u);
  EXPECT_EQ(leaf->ebx, 0u);
}

TEST_F(KvmSupportedCpuid, HasWhatOnlyTheKernelsLocalApicCanDoWithThatOne) {
  for (const char* name : {"x2apic", "tsc-deadline"})
    EXPECT_FALSE(x86::has_feature(shown(false), name)) << name;
  EXPECT_TRUE(x86::has_feature(shown(true), "x2apic"));

  constexpr uint32_t kOfLocalApic =
      x86::kvm::kPvEoiFeature | x86::kvm::kUnhalt | x86::kvm::kSendIpi | x86::kvm::kAsyncPageFaults;
  const auto of_kernel = device_->raw_cpuid();
  ASSERT_TRUE(of_kernel) << of_kernel.error().message;
  const auto* features = of_kernel->find(x86::kvm::kFeatureLeaf, 0);
  if (features == nullptr) return;  // this kernel is no paravirtual one
  const uint32_t all = features->eax;
  EXPECT_EQ(shown(true).answer(x86::kvm::kFeatureLeaf, 0).eax, all);
  EXPECT_EQ(shown(false).answer(x86::kvm::kFeatureLeaf, 0).eax, all & ~kOfLocalApic);
}

}  // namespace
}  // namespace limen::kvm
