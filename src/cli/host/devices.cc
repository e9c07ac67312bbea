#include "cli/host/devices.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>

namespace limen::cli::host {
namespace {

Finding iommu(const HostFiles& files, const Processor& processor) {
  Finding finding{.key = "iommu", .name = "IOMMU", .value = nullptr, .text = "none"};
  const auto units = files.list("sys/class/iommu");
  const auto groups = files.list("sys/kernel/iommu_groups").size();
  if (groups > 0) {
    finding.value = {{"units", units}, {"groups", groups}};
    finding.text = fmt::format("{} group{}{}{}", groups, groups == 1 ? "" : "s",
                               units.empty() ? "" : " of ", fmt::join(units, ", "));
    return finding;
  }
  if (!files.exists("sys/class")) return unknown(finding, "sys/class");
  finding.verdict = Verdict::kMissing;
  finding.advice = fmt::format(
      "only passing a host's devices through needs it: {} in the firmware's set-up{}",
      processor.is_amd() ? "AMD-Vi" : "VT-d",
      processor.vendor == "GenuineIntel" ? ", intel_iommu=on on the kernel's command line" : "");
  return finding;
}

struct Device {
  std::string_view key;
  std::string_view name;
  std::string_view file;  ///< Below the root.
  std::string_view if_absent;
  std::string_view remake;                  ///< How to make the file anew.
  std::string_view if_refused;              ///< Empty: as advice_on() has it.
  std::optional<unsigned> capability = {};  ///< Needed as well, by its number in capabilities(7).
  std::string_view if_not_capable = {};
};
constexpr unsigned kNetAdmin = 12;
constexpr std::array kDevices = {
    Device{"tun", "tap interfaces", "dev/net/tun", "modprobe tun; -netdev user needs none",
           "modprobe tun, or mknod /dev/net/tun c 10 200",
           "as root: chmod 666 /dev/net/tun; ip tuntap add mode tap user USER", kNetAdmin,
           "only root makes an interface: ip tuntap add mode tap user USER, then ifname=NAME"},
    Device{"vhost-net", "vhost-net", "dev/vhost-net",
           "modprobe vhost_net; without it this process moves the frames",
           "modprobe vhost_net, or mknod /dev/vhost-net c 10 238", ""},
};

Finding device(const HostFiles& files, const Device& wanted) {
  const auto path = "/" + std::string(wanted.file);
  Finding finding{.key = std::string(wanted.key),
                  .name = std::string(wanted.name),
                  .value = path,
                  .text = path};
  const auto access = files.access(wanted.file);
  // Anybody may open the one for tap interfaces, and use an interface that is theirs.
  const auto capable =
      wanted.capability ? files.has_capability(*wanted.capability) : std::optional(true);
  if (access.granted() && capable != true) {
    finding.verdict = Verdict::kWarning;
    if (capable)
      finding.advice = wanted.if_not_capable;
    else
      finding.text += "; this user's capabilities are unknown: no /proc here";
    return finding;
  }
  if (access.granted()) return finding;
  finding.value = nullptr;
  finding.verdict = Verdict::kMissing;
  if (!access.there()) {
    finding.text = absence_of(access, path);
    finding.advice = wanted.if_absent;
    return finding;
  }
  finding.text = fmt::format("{} may not be opened: {}", path, std::strerror(access.error));
  finding.advice = access.error == EACCES && !wanted.if_refused.empty()
                       ? wanted.if_refused
                       : advice_on(access, path, wanted.remake);
  return finding;
}

}  // namespace

Findings device_findings(const HostFiles& files, const Processor& processor) {
  Findings findings{iommu(files, processor)};
  for (const auto& wanted : kDevices) findings.push_back(device(files, wanted));
  return findings;
}

}  // namespace limen::cli::host
