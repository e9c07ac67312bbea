// The probe guest on this host's /dev/kvm, whatever is behind it.
#include "kvm/probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>

#include "kvm/kvm_test.h"
#include "kvm/probe_guest.h"

namespace limen::kvm {
namespace {

using testing::HasSubstr;

ProbeResult good_result() {
  return {.runs = true,
          .native_rate = 4e9,
          .kernel_rate = 3e9,
          .user_rate = 3e9,
          .breakpoint = true,
          .system_call = true,
          .trouble = {}};
}

TEST(KvmProbeResult, IsUsableWhereAKernelRunsAndItsEntriesWork) {
  EXPECT_TRUE(good_result().usable());
  auto result = good_result();
  result.kernel_rate = 1.4e6;
  EXPECT_FALSE(result.usable());
  result = good_result();
  result.breakpoint = false;
  EXPECT_FALSE(result.usable());
  result = good_result();
  result.system_call = false;
  EXPECT_FALSE(result.usable());
  EXPECT_FALSE(ProbeResult{}.usable());
  // Where this process may not make code, native speed is not known.
  result = good_result();
  result.native_rate = 0;
  EXPECT_TRUE(result.usable());
  result.kernel_rate = 50e6;
  EXPECT_FALSE(result.usable());
}

class KvmProbe : public KvmTest {};

TEST_F(KvmProbe, MeasuresBothRingsWithinItsTime) {
  const auto start = std::chrono::steady_clock::now();
  const auto result = probe(*device_);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_TRUE(result.runs) << result.trouble;
  EXPECT_GT(result.native_rate, 1e7);
  EXPECT_GT(result.kernel_rate, 1e4);
  EXPECT_GT(result.user_rate, 1e4);
  EXPECT_EQ(result.trouble.empty(), result.breakpoint && result.system_call) << result.trouble;
  EXPECT_LT(took.count(), 1.0);  // 0.3 where other tests leave a processor to it
  RecordProperty("milliseconds", static_cast<int>(took.count() * 1000));
}

TEST_F(KvmProbe, FindsThatAParavirtualBackEndIsNoPlaceForAKernel) {
  if (!std::filesystem::exists("/sys/module/kvm_pvm")) GTEST_SKIP() << "kvm_pvm is not loaded";
  const auto result = probe(*device_);
  EXPECT_FALSE(result.usable());
  EXPECT_LT(result.kernel_ratio(), 0.01);
  EXPECT_GT(result.user_ratio(), 0.3);
  EXPECT_THAT(result.trouble, HasSubstr("INT3 in ring 0: emulation failure"));
  EXPECT_THAT(result.trouble, HasSubstr("SYSCALL in ring 3: "));
}

TEST_F(KvmProbe, FindsThatVirtualizationHardwareRunsAKernelAtItsSpeed) {
  if (!std::filesystem::exists("/sys/module/kvm_amd") &&
      !std::filesystem::exists("/sys/module/kvm_intel"))
    GTEST_SKIP() << "neither kvm_amd nor kvm_intel is loaded";
  const auto result = probe(*device_);
  EXPECT_TRUE(result.usable()) << result.kernel_ratio() << " " << result.trouble;
  EXPECT_EQ(result.trouble, "");
}

TEST_F(KvmProbe, ProgramThatDoesNotEndIsStoppedAndSaysHowFarItGot) {
  auto guest = ProbeGuest::create(*device_);
  ASSERT_TRUE(guest) << guest.error().message;
  constexpr uint64_t kRounds = uint64_t{1} << 40;
  for (const auto program : {ProbeGuest::Program::kKernelLoop, ProbeGuest::Program::kUserLoop}) {
    const auto outcome = (*guest)->run(program, kRounds, std::chrono::milliseconds(20));
    ASSERT_TRUE(outcome) << outcome.error().message;
    EXPECT_TRUE(outcome->timed_out);
    EXPECT_LT(outcome->rounds_left, kRounds);
    EXPECT_GT(outcome->rounds_left, 0u);
  }
  const auto after = (*guest)->run(ProbeGuest::Program::kUserLoop, 10, std::chrono::seconds(1));
  ASSERT_TRUE(after) << after.error().message;
  EXPECT_EQ(after->trouble, "");
}

TEST_F(KvmProbe, LeavesNoSignalBehind) {
  sigset_t before, after, pending;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  auto guest = ProbeGuest::create(*device_);
  ASSERT_TRUE(guest) << guest.error().message;
  const auto outcome = (*guest)->run(ProbeGuest::Program::kUserLoop, uint64_t{1} << 40,
                                     std::chrono::milliseconds(5));
  ASSERT_TRUE(outcome && outcome->timed_out);
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  sigpending(&pending);
  EXPECT_FALSE(sigismember(&after, SIGALRM));
  EXPECT_EQ(sigismember(&before, SIGALRM), sigismember(&after, SIGALRM));
  EXPECT_FALSE(sigismember(&pending, SIGALRM));
}

}  // namespace
}  // namespace limen::kvm
