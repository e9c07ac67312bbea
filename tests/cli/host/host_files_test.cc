#include "cli/host/host_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "cli/host/made_up_host.h"

namespace limen::cli::host {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(HostFiles, ReadsAndListsBelowItsRoot) {
  const MadeUpHost host;
  host.put("proc/sys/vm/max_map_count", "65530\n");
  host.put("sys/module/kvm_amd/parameters/nested", "1\n");
  host.put("sys/module/kvm/x", "");
  const auto files = host.files();
  EXPECT_EQ(files.read("proc/sys/vm/max_map_count"), "65530");
  EXPECT_EQ(files.read("proc/sys/vm/other"), std::nullopt);
  EXPECT_THAT(files.list("sys/module"), ElementsAre("kvm", "kvm_amd"));
  EXPECT_THAT(files.list("sys/class"), IsEmpty());
  EXPECT_TRUE(files.exists("sys/module/kvm"));
  EXPECT_FALSE(files.exists("dev/kvm"));
}

TEST(HostFiles, AccessSaysWhatIsThereAndForWhom) {
  const MadeUpHost host;
  const auto absent = host.files().access("dev/kvm");
  EXPECT_FALSE(absent.there());
  EXPECT_EQ(advice_on(absent, "/dev/kvm"), "");
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become nobody";

  host.put("etc/group", "root:x:0:\nbroken\nkvm:x:104:a,b\n");
  host.put("dev/kvm", "", 0660);
  host.give_to_group("dev/kvm", 104);
  EXPECT_TRUE(host.files().access("dev/kvm").granted());
  const AsNobody nobody;
  const auto access = host.files().access("dev/kvm");
  EXPECT_EQ(access.error, EACCES);
  EXPECT_TRUE(access.there());
  EXPECT_EQ(access.group, "kvm");
  EXPECT_EQ(advice_on(access, "/dev/kvm"),
            "join group kvm: sudo usermod -aG kvm USER, then log in again");
}

TEST(HostFiles, AdviceForADeviceOfItsOwnerAlone) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become nobody";
  const MadeUpHost host;
  host.put("dev/kvm", "", 0600);
  host.give_to_group("dev/kvm", 4711);
  const AsNobody nobody;
  const auto access = host.files().access("dev/kvm");
  EXPECT_EQ(access.group, "4711");
  EXPECT_THAT(advice_on(access, "/dev/kvm"), HasSubstr("chmod 660 /dev/kvm"));
}

}  // namespace
}  // namespace limen::cli::host
