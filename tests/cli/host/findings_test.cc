// What is said of hosts that are made up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "cli/host/devices.h"
#include "cli/host/kernel_hypervisor.h"
#include "cli/host/made_up_host.h"
#include "cli/host/memory.h"
#include "cli/host/processor.h"

namespace limen::cli::host {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;
using testing::Not;

int has_userfaultfd(int) { return 0; }

TEST(HostProcessor, VirtualizationSaysWhereItIsSwitchedOn) {
  const MadeUpHost host;
  Processor processor{.vendor = "AuthenticAMD"};
  auto finding = find(processor_findings(host.files(), processor), "virtualization");
  EXPECT_EQ(finding.verdict, Verdict::kMissing);
  EXPECT_THAT(finding.advice, HasSubstr("switch on AMD-V (SVM) in the firmware"));

  processor.virtual_machine = true;
  processor.hypervisor_signature = "Microsoft Hv";
  finding = find(processor_findings(host.files(), processor), "virtualization");
  EXPECT_THAT(finding.advice, HasSubstr("nested virtualization"));
  EXPECT_EQ(find(processor_findings(host.files(), processor), "virtual-machine").value, "Hyper-V");

  processor.svm = true;
  finding = find(processor_findings(host.files(), processor), "virtualization");
  EXPECT_EQ(finding.verdict, Verdict::kOk);
  EXPECT_EQ(finding.value, "svm");
}

TEST(HostProcessor, VirtualizationThatTheFirmwareHasSwitchedOffIsMissing) {
  const MadeUpHost host;
  const Processor processor{.vendor = "GenuineIntel", .vmx = true};
  const auto finding = [&] {
    return find(processor_findings(host.files(), processor), "virtualization");
  };
  // CPUID alone counts where the kernel does not say.
  EXPECT_EQ(finding().verdict, Verdict::kOk);
  host.put("proc/cpuinfo", "processor\t: 0\n");
  EXPECT_EQ(finding().verdict, Verdict::kOk);
  host.put("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vmx sse\nvmx flags\t: vnmi\n");
  EXPECT_EQ(finding().verdict, Verdict::kOk);
  host.put("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu sse\nvmx flags\t: vnmi\n");
  EXPECT_EQ(finding().verdict, Verdict::kMissing);
  EXPECT_EQ(finding().value, nullptr);
  EXPECT_EQ(finding().text, "vmx, but the firmware has it switched off");
  EXPECT_EQ(finding().advice, "switch on VT-x in the firmware's set-up");
  EXPECT_EQ(find(kvm_findings(host.files(), processor, {}), "kvm-device").advice,
            "it comes with kvm_intel or kvm_amd");
}

TEST(HostProcessor, NameHasNoBlanksAroundIt) {
  using namespace std::string_view_literals;
  EXPECT_EQ(brand_of("  AMD EPYC 7B13          \0\0\0"sv), "AMD EPYC 7B13");
  EXPECT_EQ(brand_of("      \0"sv), "");
}

TEST(HostProcessor, SignatureOfAHypervisorIsPrintableOrNone) {
  using namespace std::string_view_literals;
  EXPECT_EQ(hypervisor_signature("KVMKVMKVM\0\0\0"sv, ""), "KVMKVMKVM");
  EXPECT_EQ(hypervisor_signature("bhyve bhyve "sv, ""), "bhyve bhyve ");
  EXPECT_EQ(hypervisor_signature("SomeOtherOne"sv, ""), "SomeOtherOne");
  EXPECT_EQ(hypervisor_signature("\x07\0\0\0\x02\0\0\0\xff\0\0\0"sv, ""), "");
  EXPECT_EQ(hypervisor_signature("KVM\0KVMKVM\0\0"sv, ""), "");
  EXPECT_EQ(hypervisor_signature("\0\0\0\0\0\0\0\0\0\0\0\0"sv, ""), "");

  const MadeUpHost host;
  const Processor processor{.virtual_machine = true};
  EXPECT_EQ(find(processor_findings(host.files(), processor), "virtual-machine").value,
            "an unknown hypervisor");
}

TEST(HostProcessor, HypervisorThatOffersTheInterfaceOfHyperVIsNamed) {
  using namespace std::string_view_literals;
  EXPECT_EQ(hypervisor_signature("Microsoft Hv", "KVMKVMKVM\0\0\0"sv), "KVMKVMKVM");
  EXPECT_EQ(hypervisor_signature("Microsoft Hv", "XenVMMXenVMM"), "XenVMMXenVMM");
  EXPECT_EQ(hypervisor_signature("Microsoft Hv", "\x07\0\0\0\x02\0\0\0\xff\0\0\0"sv),
            "Microsoft Hv");
  EXPECT_EQ(hypervisor_signature("VMwareVMware", "KVMKVMKVM\0\0\0"sv), "VMwareVMware");
}

TEST(HostProcessor, OfThisHostHasAName) {
  const auto processor = read_processor();
  EXPECT_FALSE(processor.name.empty());
  EXPECT_EQ(processor.vendor.size(), 12u);
  EXPECT_GT(processor.tsc_hz, 100'000'000u);
  EXPECT_GT(processor.memory, uint64_t{1} << 28);
}

class HostKvm : public testing::Test {
 protected:
  Findings findings() const {
    return kvm_findings(host_.files(), processor_, kvm::choose(host_.files().path("dev/kvm")));
  }
  MadeUpHost host_;
  Processor processor_{.vendor = "GenuineIntel", .vmx = true};
};

TEST_F(HostKvm, WithoutModulesSaysWhichToLoad) {
  host_.put("sys/module/tcp/x", "");
  const auto modules = find(findings(), "kvm-modules");
  EXPECT_EQ(modules.verdict, Verdict::kMissing);
  EXPECT_EQ(modules.advice, "sudo modprobe kvm_intel");
  const auto device = find(findings(), "kvm-device");
  EXPECT_EQ(device.verdict, Verdict::kMissing);
  EXPECT_EQ(device.value, nullptr);
  processor_.vmx = false;
  EXPECT_THAT(find(findings(), "kvm-modules").advice, HasSubstr("no use without"));
}

TEST_F(HostKvm, NoModuleIsOfUseWhereTheFirmwareHasItSwitchedOff) {
  host_.put("proc/cpuinfo", "flags\t\t: fpu sse\n");
  host_.put("sys/module/tcp/x", "");
  EXPECT_EQ(find(findings(), "kvm-modules").advice, "of no use until vmx is switched on");
  host_.put("sys/module/kvm/x", "");
  EXPECT_EQ(find(findings(), "kvm-modules").advice,
            "kvm alone runs nothing: of no use until vmx is switched on");
  host_.put_without_driver("dev/kvm");
  EXPECT_EQ(find(findings(), "kvm-device").advice, "of no use until vmx is switched on");
}

TEST_F(HostKvm, ModulesAreUnknownWithoutSys) {
  auto modules = find(findings(), "kvm-modules");
  EXPECT_EQ(modules.verdict, Verdict::kWarning);
  EXPECT_EQ(modules.text, "unknown: no /sys/module here");
  EXPECT_EQ(modules.value, nullptr);
  EXPECT_EQ(modules.advice, "");
  host_.put("proc/misc", "232 kvm\n");
  EXPECT_EQ(find(findings(), "kvm-modules").verdict, Verdict::kOk);
}

TEST_F(HostKvm, ModulesAreNotMissedWhereTheKernelHasTheDevice) {
  host_.put("sys/module/tcp/x", "");
  host_.put("proc/misc", "232 kvm\n");
  EXPECT_EQ(find(findings(), "kvm-modules").verdict, Verdict::kOk);
  EXPECT_EQ(find(findings(), "kvm-modules").advice, "");
}

TEST_F(HostKvm, AbsentDeviceIsAContainersWhereTheKernelHasIt) {
  host_.put("proc/misc", "183 hw_random\n");
  host_.put("sys/module/kvm/x", "");
  EXPECT_EQ(find(findings(), "kvm-device").advice, "it comes with kvm_intel or kvm_amd");
  host_.put("sys/module/kvm_intel/x", "");
  EXPECT_EQ(find(findings(), "kvm-device").advice,
            "kvm_intel is there, but did not start: `dmesg | grep kvm` says why");
  host_.put("proc/misc", "183 hw_random\n232 kvm\n");
  EXPECT_EQ(find(findings(), "kvm-device").text, "/dev/kvm is not there");
  EXPECT_EQ(find(findings(), "kvm-device").advice,
            "the kernel has it: a container wants --device /dev/kvm");
}

TEST_F(HostKvm, DeviceWithoutADriverWantsTheModule) {
  host_.put("sys/module/kvm/x", "");
  host_.put_without_driver("dev/kvm");
  const auto device = find(findings(), "kvm-device");
  EXPECT_EQ(device.verdict, Verdict::kMissing);
  EXPECT_EQ(device.value, nullptr);
  EXPECT_EQ(device.text, "/dev/kvm is there, with no driver behind it");
  EXPECT_EQ(device.advice, "sudo modprobe kvm_intel");
  EXPECT_EQ(find(findings(), "kvm-modules").advice,
            "kvm alone runs nothing: sudo modprobe kvm_intel");
  host_.put("sys/module/kvm_intel/x", "");
  EXPECT_THAT(find(findings(), "kvm-device").advice, HasSubstr("did not start"));
  host_.put("proc/misc", "232 kvm\n");
  EXPECT_THAT(find(findings(), "kvm-device").advice, HasSubstr("mknod /dev/kvm c 10 232"));
}

TEST_F(HostKvm, NestingThatIsOffIsAWarning) {
  host_.put("sys/module/kvm/refcnt", "1\n");
  host_.put("sys/module/kvm_intel/parameters/nested", "N\n");
  auto nested = find(findings(), "nested-kvm_intel");
  EXPECT_EQ(nested.verdict, Verdict::kWarning);
  EXPECT_EQ(nested.value, false);
  EXPECT_THAT(nested.advice, HasSubstr("options kvm_intel nested=1"));

  host_.put("sys/module/kvm_intel/parameters/nested", "Y\n");
  nested = find(findings(), "nested-kvm_intel");
  EXPECT_EQ(nested.verdict, Verdict::kOk);
  EXPECT_EQ(nested.value, true);
}

TEST_F(HostKvm, DeviceOfAGroupThatThisUserIsNotIn) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become nobody";
  host_.put("etc/group", "kvm:x:104:\n");
  host_.put("dev/kvm", "", 0660);
  host_.give_to_group("dev/kvm", 104);
  const AsNobody nobody;
  const auto device = find(findings(), "kvm-device");
  EXPECT_EQ(device.verdict, Verdict::kMissing);
  EXPECT_THAT(device.text, HasSubstr("(group kvm)"));
  EXPECT_THAT(device.advice, HasSubstr("usermod -aG kvm"));
}

TEST_F(HostKvm, DeviceOfAGroupOfAnotherNamespace) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become nobody";
  host_.put("etc/group", "nogroup:x:65534:\n");
  host_.put("proc/self/uid_map", "         0       1000          1\n");
  host_.put("dev/kvm", "", 0600);
  host_.give_to_group("dev/kvm", 65534);
  const AsNobody nobody;
  EXPECT_THAT(find(findings(), "kvm-device").advice,
              HasSubstr("one of another namespace's: start a rootless container"));
}

TEST_F(HostKvm, FileThatIsNotTheKernelsDevice) {
  constexpr auto kAdvice =
      "remove it; then modprobe kvm_intel or kvm_amd, or mknod /dev/kvm c 10 232";
  host_.put("dev/kvm", "");
  auto device = find(findings(), "kvm-device");
  EXPECT_EQ(device.verdict, Verdict::kMissing);
  EXPECT_THAT(device.text, HasSubstr("is not the kernel's hypervisor"));
  EXPECT_EQ(device.advice, kAdvice);

  const MadeUpHost other;
  other.put("dev/kvm/x", "");
  device = find(kvm_findings(other.files(), processor_, {}), "kvm-device");
  EXPECT_EQ(device.verdict, Verdict::kMissing);
  EXPECT_EQ(device.text, "/dev/kvm cannot be used: Is a directory");
  EXPECT_EQ(device.advice, kAdvice);
}

TEST_F(HostKvm, ProbeThatFoundAnEmulatorIsAWarning) {
  kvm::Choice choice;
  choice.probe = kvm::ProbeResult{.runs = true,
                                  .native_rate = 7e9,
                                  .kernel_rate = 1.4e6,
                                  .user_rate = 7e9,
                                  .trouble = "INT3 in ring 0: emulation failure"};
  const auto probe = find(kvm_findings(host_.files(), processor_, choice), "kvm-probe");
  EXPECT_EQ(probe.verdict, Verdict::kWarning);
  EXPECT_EQ(probe.value["usable"], false);
  EXPECT_EQ(probe.value["trouble"], "INT3 in ring 0: emulation failure");
  EXPECT_THAT(probe.text, HasSubstr("ring 0: 1.4 million instructions a second, ring 3: 7000"));
}

class HostMemory : public testing::Test {
 protected:
  Finding finding(std::string_view key, const TryUserfaultfd& attempt = has_userfaultfd) const {
    return find(memory_findings(host_.files(), attempt), key);
  }
  MadeUpHost host_;
};

TEST_F(HostMemory, IsUnknownWithoutSysAndProc) {
  for (const auto* key : {"transparent-huge-pages", "reserved-huge-pages"})
    EXPECT_EQ(finding(key).text, "unknown: no /sys/kernel/mm here");
  EXPECT_EQ(finding("locked-memory").text, "unknown: no /proc/self here");
  EXPECT_EQ(finding("map-count").text, "unknown: no /proc/sys/vm here");
  for (const auto& finding : memory_findings(host_.files(), has_userfaultfd)) {
    if (finding.key == "userfaultfd") continue;
    EXPECT_EQ(finding.verdict, Verdict::kWarning) << finding.key;
    EXPECT_EQ(finding.value, nullptr) << finding.key;
    EXPECT_EQ(finding.advice, "") << finding.key;
  }
}

TEST_F(HostMemory, TransparentHugePages) {
  host_.put("sys/kernel/mm/hugepages/x", "");
  EXPECT_EQ(finding("transparent-huge-pages").verdict, Verdict::kMissing);
  host_.put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
  host_.put("sys/kernel/mm/transparent_hugepage/shmem_enabled",
            "always within_size [advise] never deny force\n");
  EXPECT_EQ(finding("transparent-huge-pages").verdict, Verdict::kOk);
  EXPECT_EQ(finding("transparent-huge-pages").value,
            (ordered_json{{"private", "madvise"}, {"shared", "advise"}}));
  host_.put("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
  const auto off = finding("transparent-huge-pages");
  EXPECT_EQ(off.verdict, Verdict::kWarning);
  EXPECT_THAT(off.advice, HasSubstr("transparent_hugepage/enabled"));
}

TEST_F(HostMemory, ReservedHugePages) {
  host_.put("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0\n");
  host_.put("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0\n");
  EXPECT_EQ(finding("reserved-huge-pages").verdict, Verdict::kMissing);
  host_.put("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n");
  host_.put("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "384\n");
  const auto pool = finding("reserved-huge-pages");
  EXPECT_EQ(pool.verdict, Verdict::kOk);
  EXPECT_EQ(pool.text, "384 of 512 free, of 2 MiB");
  EXPECT_EQ(pool.value[0]["size"], 2 << 20);
}

TEST_F(HostMemory, LockedMemoryIsLimitedUnlessTheUserMayLockAll) {
  constexpr auto kLimits =
      "Limit                     Soft Limit           Hard Limit           Units     \n"
      "Max locked memory         8388608              8388608              bytes     \n";
  host_.put("proc/self/limits", kLimits);
  host_.put("proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\n");
  auto locked = finding("locked-memory");
  EXPECT_EQ(locked.verdict, Verdict::kWarning);
  EXPECT_EQ(locked.value, 8388608);
  EXPECT_THAT(locked.text, HasSubstr("8 MiB"));
  host_.put("proc/self/status", "Name:\tx\nCapEff:\t0000000000004000\n");
  EXPECT_EQ(finding("locked-memory").verdict, Verdict::kOk);
  host_.put("proc/self/uid_map", "         0          0 4294967295\n");
  EXPECT_EQ(finding("locked-memory").verdict, Verdict::kOk);
  // Root of a container's own user namespace may not.
  host_.put("proc/self/uid_map", "         0       1000          1\n");
  EXPECT_EQ(finding("locked-memory").verdict, Verdict::kWarning);
}

TEST_F(HostMemory, FewMappingsAreAWarning) {
  host_.put("proc/sys/vm/max_map_count", "65530\n");
  EXPECT_EQ(finding("map-count").verdict, Verdict::kOk);
  host_.put("proc/sys/vm/max_map_count", "1000\n");
  EXPECT_EQ(finding("map-count").verdict, Verdict::kWarning);
  EXPECT_EQ(finding("map-count").value, 1000);
  host_.put("proc/sys/vm/max_map_count", "many\n");
  EXPECT_EQ(finding("map-count").value, nullptr);
}

TEST_F(HostMemory, UserfaultfdForTheKernelsFaultsForThoseOfUserModeOrNot) {
  EXPECT_EQ(finding("userfaultfd").value, "all");
  const auto user_only = [](int flags) { return flags == UFFD_USER_MODE_ONLY ? 0 : EPERM; };
  EXPECT_EQ(finding("userfaultfd", user_only).value, "user");
  EXPECT_EQ(finding("userfaultfd", user_only).verdict, Verdict::kWarning);
  const auto none = [](int) { return ENOSYS; };
  // A capability is no help where the kernel has none.
  host_.put("proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n");
  EXPECT_EQ(finding("userfaultfd", none).verdict, Verdict::kMissing);
  EXPECT_THAT(finding("userfaultfd", none).advice, HasSubstr("CONFIG_USERFAULTFD"));
  host_.put("dev/userfaultfd", "");
  EXPECT_EQ(finding("userfaultfd", user_only).value, "all");
}

TEST(HostDevices, OfAHostWithAllAndOfOneWithNone) {
  const MadeUpHost host;
  host.put("sys/class/net/x", "");
  for (const auto& finding : device_findings(host.files(), {})) {
    EXPECT_EQ(finding.verdict, Verdict::kMissing) << finding.key;
    EXPECT_NE(finding.advice, "") << finding.key;
    EXPECT_EQ(finding.value, nullptr) << finding.key;
  }
  host.put("sys/class/iommu/dmar0/x", "");
  host.put("sys/kernel/iommu_groups/0/x", "");
  host.put("sys/kernel/iommu_groups/1/x", "");
  host.put("dev/net/tun", "");
  host.put("dev/vhost-net", "");
  // Who may open the first cannot make an interface with it, unless an administrator.
  host.put("proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\n");
  const auto tun = find(device_findings(host.files(), {}), "tun");
  EXPECT_EQ(tun.verdict, Verdict::kWarning);
  EXPECT_EQ(tun.value, "/dev/net/tun");
  EXPECT_THAT(tun.advice, HasSubstr("ip tuntap add"));
  host.put("proc/self/status", "Name:\tx\nCapEff:\t0000000000001000\n");
  const auto findings = device_findings(host.files(), {});
  for (const auto& finding : findings) EXPECT_EQ(finding.verdict, Verdict::kOk) << finding.key;
  EXPECT_EQ(find(findings, "iommu").text, "2 groups of dmar0");
}

TEST(HostDevices, IommuIsSwitchedOnByTheKernelsCommandLineOnIntelsProcessorsAlone) {
  const MadeUpHost host;
  const auto iommu = [&](const std::string& vendor) {
    return find(device_findings(host.files(), {.vendor = vendor}), "iommu");
  };
  EXPECT_EQ(iommu("GenuineIntel").text, "unknown: no /sys/class here");
  EXPECT_EQ(iommu("GenuineIntel").verdict, Verdict::kWarning);
  EXPECT_EQ(iommu("GenuineIntel").advice, "");
  host.put("sys/class/net/x", "");
  EXPECT_EQ(iommu("GenuineIntel").verdict, Verdict::kMissing);
  EXPECT_THAT(iommu("GenuineIntel").advice, HasSubstr("intel_iommu=on"));
  EXPECT_THAT(iommu("AuthenticAMD").advice, HasSubstr("AMD-Vi in the firmware"));
  EXPECT_THAT(iommu("AuthenticAMD").advice, Not(HasSubstr("intel_iommu")));
}

TEST(HostDevices, ThatAreNoDevicesOrHaveNoDriver) {
  const MadeUpHost host;
  host.put("dev/net/tun/x", "");
  host.put_without_driver("dev/vhost-net");
  const auto findings = device_findings(host.files(), {});
  EXPECT_EQ(find(findings, "tun").advice,
            "remove it; then modprobe tun, or mknod /dev/net/tun c 10 200");
  EXPECT_EQ(find(findings, "vhost-net").text, "/dev/vhost-net is there, with no driver behind it");
  EXPECT_THAT(find(findings, "vhost-net").advice, HasSubstr("modprobe vhost_net"));
}

TEST(HostDevices, TapInterfacesOfAUserWhoseCapabilitiesAreUnknown) {
  const MadeUpHost host;
  host.put("dev/net/tun", "");
  const auto tun = find(device_findings(host.files(), {}), "tun");
  EXPECT_EQ(tun.verdict, Verdict::kWarning);
  EXPECT_EQ(tun.value, "/dev/net/tun");
  EXPECT_THAT(tun.text, HasSubstr("capabilities are unknown: no /proc here"));
  EXPECT_EQ(tun.advice, "");
}

}  // namespace
}  // namespace limen::cli::host
