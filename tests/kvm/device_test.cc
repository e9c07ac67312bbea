// Opening /dev/kvm, and what is said where that fails.
#include "kvm/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kvm/kernel.h"
#include "kvm/kvm_test.h"

namespace limen::kvm {
namespace {

using testing::HasSubstr;

TEST(KvmDeviceErrors, NameTheCauseAndTheRemedy) {
  const auto absent = Device::open("/dev/kvm-is-not-here");
  ASSERT_FALSE(absent);
  EXPECT_THAT(absent.error().message, HasSubstr("/dev/kvm-is-not-here is not there"));
  EXPECT_THAT(absent.error().message, HasSubstr("-accel soft"));

  const auto other = Device::open("/dev/null");
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error().message, HasSubstr("/dev/null is not the kernel's hypervisor"));
  EXPECT_THAT(other.error().message, HasSubstr("mknod /dev/kvm c 10 232"));

  const auto folder = Device::open("/dev");
  ASSERT_FALSE(folder);
  EXPECT_THAT(folder.error().message, HasSubstr("/dev cannot be used: Is a directory; remove it"));
}

class KvmDevice : public KvmTest {};

TEST_F(KvmDevice, SaysWhatItHas) {
  EXPECT_GT(device_->extension(KVM_CAP_USER_MEMORY), 0);
  EXPECT_EQ(device_->extension(100'000), 0);
  EXPECT_GE(device_->run_size(), sizeof(kvm_run));
  EXPECT_FALSE(device_->msrs().empty());
  const auto cpuid = device_->raw_cpuid();
  ASSERT_TRUE(cpuid) << cpuid.error().message;
  EXPECT_NE(cpuid->find(1, 0), nullptr);
  EXPECT_NE(cpuid->find(0x8000'0001, 0), nullptr);
}

}  // namespace
}  // namespace limen::kvm
