#include "cli/host/host_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/unique_fd.h"

namespace limen::cli::host {

bool Access::there() const { return error != ENOENT && error != ENODEV && error != ENXIO; }

HostFiles::HostFiles(std::string root) : root_(std::move(root)) {
  if (!root_.ends_with('/')) root_ += '/';
}

std::string HostFiles::path(std::string_view name) const { return root_ + std::string(name); }

std::optional<std::string> HostFiles::read(std::string_view name) const {
  std::ifstream file(path(name));
  if (!file) return std::nullopt;
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (file.bad()) return std::nullopt;
  text.erase(text.find_last_not_of(" \n\t") + 1);
  return text;
}

bool HostFiles::exists(std::string_view name) const {
  std::error_code error;
  return std::filesystem::exists(path(name), error);
}

std::vector<std::string> HostFiles::list(std::string_view name) const {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(path(name), error), end; !error && entry != end;
       entry.increment(error))
    names.push_back(entry->path().filename());
  std::ranges::sort(names);
  return names;
}

std::optional<bool> HostFiles::has_capability(unsigned number) const {
  const auto status = read("proc/self/status").value_or("");
  constexpr std::string_view kName = "\nCapEff:\t";
  const auto at = status.find(kName);
  if (at == std::string::npos) return std::nullopt;
  uint64_t mask = 0;
  std::from_chars(status.data() + at + kName.size(), status.data() + status.size(), mask, 16);
  return (mask >> number & 1) != 0;
}

bool HostFiles::in_first_user_namespace() const {
  const auto map = read("proc/self/uid_map");
  if (!map) return true;  // the kernel has no others
  // user_namespaces(7): the first has all users as they are.
  std::istringstream line(*map);
  uint64_t inside = 1, outside = 1, count = 0;
  line >> inside >> outside >> count;
  return inside == 0 && outside == 0 && count == UINT32_MAX;
}

Access HostFiles::access(std::string_view name) const {
  Access access;
  const auto file = path(name);
  const UniqueFd opened(::open(file.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!opened.valid()) access.error = errno;
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return access;
  constexpr auto kBoth = S_IRGRP | S_IWGRP;
  const auto group = group_name(status.st_gid);
  access.group = group.value_or(std::to_string(status.st_gid));
  // user_namespaces(7): a group that is not mapped shows as this one.
  constexpr gid_t kNotMapped = 65534;
  access.foreign_group = (!group || status.st_gid == kNotMapped) && !in_first_user_namespace();
  access.for_group = (status.st_mode & kBoth) == kBoth;
  return access;
}

std::optional<std::string> HostFiles::group_name(unsigned number) const {
  // group(5): name:password:number:members
  std::istringstream lines(read("etc/group").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    auto name = line.substr(0, line.find(':'));
    const auto middle = line.find(':', name.size() + 1);
    if (middle == std::string::npos) continue;
    if (line.substr(middle + 1, line.find(':', middle + 1) - middle - 1) == std::to_string(number))
      return name;
  }
  return std::nullopt;
}

std::string absence_of(const Access& access, std::string_view device) {
  return fmt::format("{} is {}", device,
                     access.error == ENOENT ? "not there" : "there, with no driver behind it");
}

std::string advice_on(const Access& access, std::string_view device, std::string_view remake) {
  if (access.granted() || !access.there()) return {};
  if (access.error == EPERM)
    return fmt::format("the container's device rules forbid it: start it with --device {}", device);
  if (access.error != EACCES) return fmt::format("remove it; then {}", remake);
  if (access.foreign_group)
    return "the group is one of another namespace's: start a rootless container with --group-add "
           "keep-groups, its owner in group kvm";
  if (access.for_group && access.group != "root" && access.group != "0")
    return fmt::format("join group {}: sudo usermod -aG {} USER, then log in again", access.group,
                       access.group);
  return fmt::format("only its owner may open it; as root: chgrp kvm {} && chmod 660 {}", device,
                     device);
}

}  // namespace limen::cli::host
