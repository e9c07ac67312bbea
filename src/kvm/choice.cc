#include "kvm/choice.h"

#include <fmt/format.h>
#include <grp.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace limen::kvm {
namespace {

/// " (it is for group kvm)", if that helps.
std::string for_group(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || (status.st_mode & S_IWGRP) == 0) return {};
  group entry{};
  group* found = nullptr;
  std::array<char, 4096> space{};
  if (getgrgid_r(status.st_gid, &entry, space.data(), space.size(), &found) != 0 ||
      found == nullptr)
    return fmt::format(" (it is for group {})", status.st_gid);
  return fmt::format(" (it is for group {})", found->gr_name);
}

std::string why_not_opened(const Error& error, const std::string& path) {
  switch (error.system_errno) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return path + " is not there";
    case EACCES:
    case EPERM:
      return fmt::format("{} may not be opened by this user{}", path, for_group(path));
    case EBUSY:
      return path + " is in use by another hypervisor";
    case 0:
      break;
    default:
      return fmt::format("{} cannot be used: {}", path, std::strerror(error.system_errno));
  }
  return path + " has another API version than 12";
}

}  // namespace

std::string describe_rate(double rate) {
  const double millions = rate / 1e6;
  return fmt::format("{:.{}f} million", millions, millions < 10 ? 1 : 0);
}

std::string why_not(const ProbeResult& result, const std::string& path) {
  if (result.usable()) return {};
  if (!result.runs) return fmt::format("{} runs no guest: {}", path, result.trouble);
  if (result.kernel_ratio() < ProbeResult::kLeastRatio)
    return fmt::format("{} emulates ring 0 at {} instructions a second", path,
                       describe_rate(result.kernel_rate));
  return fmt::format("{} runs no unmodified kernel: {}", path, result.trouble);
}

Choice choose(const std::string& path) {
  Choice choice;
  auto device = Device::open(path);
  if (!device) {
    choice.why_not = why_not_opened(device.error(), path);
    return choice;
  }
  choice.device = *std::move(device);
  choice.probe = probe(*choice.device);
  choice.why_not = why_not(*choice.probe, path);
  return choice;
}

}  // namespace limen::kvm
