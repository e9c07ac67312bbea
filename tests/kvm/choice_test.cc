// The one line that says why kvm is not the choice.
#include "kvm/choice.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/unique_fd.h"
#include "kvm/kvm_test.h"

namespace limen::kvm {
namespace {

using testing::AnyOf;
using testing::StartsWith;

const ProbeResult kGood = {.runs = true,
                           .native_rate = 4e9,
                           .kernel_rate = 3e9,
                           .user_rate = 3e9,
                           .breakpoint = true,
                           .system_call = true,
                           .trouble = {}};

TEST(KvmChoice, NamesWhatTheProbeFound) {
  EXPECT_EQ(why_not(kGood), "");

  ProbeResult slow = kGood;
  slow.kernel_rate = 1.44e6;
  slow.breakpoint = false;
  slow.trouble = "INT3 in ring 0: emulation failure";
  EXPECT_EQ(why_not(slow), "/dev/kvm emulates ring 0 at 1.4 million instructions a second");

  ProbeResult wrong = kGood;
  wrong.system_call = false;
  wrong.trouble = "SYSCALL in ring 3: #UD";
  EXPECT_EQ(why_not(wrong), "/dev/kvm runs no unmodified kernel: SYSCALL in ring 3: #UD");

  ProbeResult none;
  none.trouble = "making a machine: no";
  EXPECT_EQ(why_not(none, "/dev/other"), "/dev/other runs no guest: making a machine: no");
}

TEST(KvmChoice, NamesADeviceThatIsAbsentOrNone) {
  const auto absent = choose("/dev/kvm-is-not-here");
  EXPECT_EQ(absent.why_not, "/dev/kvm-is-not-here is not there");
  EXPECT_EQ(absent.device, nullptr);
  EXPECT_FALSE(absent.probe);
  EXPECT_EQ(choose("/dev/null").why_not, "/dev/null is not the kernel's hypervisor");
}

TEST(KvmChoice, NamesTheGroupThatMayOpenIt) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become nobody";
  std::string folder = "/tmp/limen_choice_XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  ASSERT_EQ(::chmod(folder.c_str(), 0755), 0);
  const auto path = folder + "/kvm";
  UniqueFd(::open(path.c_str(), O_CREAT | O_RDWR, 0660)).reset();
  ASSERT_EQ(::chmod(path.c_str(), 0660), 0);
  ASSERT_EQ(::chown(path.c_str(), 0, 7), 0);  // 7: lp
  constexpr unsigned kNobody = 65534;
  ::setfsgid(kNobody);
  ::setfsuid(kNobody);  // this thread's, for files
  const auto choice = choose(path);
  ::setfsuid(0);
  ::setfsgid(0);
  std::filesystem::remove_all(folder);
  EXPECT_THAT(choice.why_not, AnyOf(path + " may not be opened by this user (it is for group lp)",
                                    path + " may not be opened by this user (it is for group 7)"));
}

class KvmChoiceHere : public KvmTest {};

TEST_F(KvmChoiceHere, HasTheDeviceAndItsProbe) {
  const auto choice = choose();
  ASSERT_NE(choice.device, nullptr);
  ASSERT_TRUE(choice.probe);
  EXPECT_EQ(choice.why_not.empty(), choice.probe->usable()) << choice.why_not;
}

}  // namespace
}  // namespace limen::kvm
