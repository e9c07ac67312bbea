#include "cli/host/host_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <optional>
#include <string_view>

#include "cli/host/made_up_host.h"

namespace limen::cli::host {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::string_view kRemake = "make it anew";

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
  EXPECT_EQ(absence_of(absent, "/dev/kvm"), "/dev/kvm is not there");
  EXPECT_EQ(advice_on(absent, "/dev/kvm", kRemake), "");
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
  EXPECT_EQ(advice_on(access, "/dev/kvm", kRemake),
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
  EXPECT_THAT(advice_on(access, "/dev/kvm", kRemake), HasSubstr("chmod 660 /dev/kvm"));
}

TEST(HostFiles, DeviceWithoutADriverIsNotThere) {
  const MadeUpHost host;
  host.put_without_driver("dev/kvm");
  const auto access = host.files().access("dev/kvm");
  EXPECT_EQ(access.error, ENXIO);
  EXPECT_FALSE(access.there());
  EXPECT_EQ(absence_of(access, "/dev/kvm"), "/dev/kvm is there, with no driver behind it");
  EXPECT_EQ(advice_on(access, "/dev/kvm", kRemake), "");
}

TEST(HostFiles, AdviceOnWhatAContainerForbids) {
  EXPECT_EQ(advice_on({.error = EPERM, .group = "kvm", .for_group = true}, "/dev/kvm", kRemake),
            "the container's device rules forbid it: start it with --device /dev/kvm");
}

TEST(HostFiles, AdviceOnAFileThatIsNoDevice) {
  const MadeUpHost host;
  host.put("dev/kvm/x", "");
  const auto access = host.files().access("dev/kvm");
  EXPECT_EQ(access.error, EISDIR);
  EXPECT_EQ(advice_on(access, "/dev/kvm", kRemake), "remove it; then make it anew");
}

TEST(HostFiles, GroupOfAnotherUserNamespaceCannotBeJoined) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become nobody";
  const MadeUpHost host;
  host.put("etc/group", "kvm:x:104:\nnogroup:x:65534:\n");
  host.put("dev/kvm", "", 0660);
  const auto foreign = [&](unsigned group) {
    host.give_to_group("dev/kvm", group);
    return host.files().access("dev/kvm").foreign_group;
  };
  // In the first namespace every group is its own.
  host.put("proc/self/uid_map", "         0          0 4294967295\n");
  EXPECT_FALSE(foreign(4711));
  EXPECT_FALSE(foreign(65534));
  host.put("proc/self/uid_map", "         0       1000          1\n");
  EXPECT_TRUE(foreign(4711));
  EXPECT_TRUE(foreign(65534));
  EXPECT_FALSE(foreign(104));
  EXPECT_THAT(
      advice_on({.error = EACCES, .for_group = true, .foreign_group = true}, "/dev/kvm", kRemake),
      HasSubstr("--group-add keep-groups"));
}

TEST(HostFiles, CapabilitiesAreUnknownWithoutProc) {
  const MadeUpHost host;
  constexpr unsigned kNetAdmin = 12;
  EXPECT_EQ(host.files().has_capability(kNetAdmin), std::nullopt);
  host.put("proc/self/status", "Name:\tx\nCapEff:\t0000000000001000\n");
  EXPECT_EQ(host.files().has_capability(kNetAdmin), true);
  EXPECT_EQ(host.files().has_capability(kNetAdmin + 1), false);
}

}  // namespace
}  // namespace limen::cli::host
