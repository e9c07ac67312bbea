#include "base/fd_sets.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <string_view>

namespace limen {

FdSets& FdSets::of_process() {
  static FdSets sets;
  return sets;
}

Result<uint64_t> FdSets::add(std::optional<uint64_t> set, UniqueFd descriptor,
                             const std::string& opaque) {
  const std::lock_guard lock(mutex_);
  if (!set) {
    set = 0;
    while (sets_.contains(*set)) ++*set;
  }
  sets_[*set].push_back({std::move(descriptor), opaque});
  return *set;
}

Result<> FdSets::remove(uint64_t set, std::optional<int> descriptor) {
  const auto what = descriptor ? fmt::format("fdset-id:{}, fd:{}", set, *descriptor)
                               : fmt::format("fdset-id:{}", set);
  const std::lock_guard lock(mutex_);
  const auto found = sets_.find(set);
  if (found == sets_.end()) return fail("File descriptor named '{}' not found", what);
  const auto removed = std::erase_if(found->second, [&](const Owned& entry) {
    return !descriptor || entry.descriptor.get() == *descriptor;
  });
  if (found->second.empty()) sets_.erase(found);
  if (removed == 0) return fail("File descriptor named '{}' not found", what);
  return {};
}

std::map<uint64_t, std::vector<FdSets::Entry>> FdSets::sets() const {
  const std::lock_guard lock(mutex_);
  std::map<uint64_t, std::vector<Entry>> all;
  for (const auto& [id, entries] : sets_)
    for (const auto& entry : entries) all[id].push_back({entry.descriptor.get(), entry.opaque});
  return all;
}

UniqueFd FdSets::open(uint64_t set, int flags) const {
  const std::lock_guard lock(mutex_);
  const auto found = sets_.find(set);
  if (found == sets_.end()) {
    errno = ENOENT;
    return {};
  }
  for (const auto& entry : found->second) {
    const int its = ::fcntl(entry.descriptor.get(), F_GETFL);
    if (its >= 0 && (its & O_ACCMODE) == (flags & O_ACCMODE))
      return UniqueFd(::fcntl(entry.descriptor.get(), F_DUPFD_CLOEXEC, 3));
  }
  errno = EACCES;
  return {};
}

UniqueFd open_file(const std::string& path, int flags, unsigned mode) {
  constexpr std::string_view kSet = "/dev/fdset/";
  if (!path.starts_with(kSet)) return UniqueFd(::open(path.c_str(), flags | O_CLOEXEC, mode));
  uint64_t set = 0;
  const char* end = path.data() + path.size();
  const auto [at, error] = std::from_chars(path.data() + kSet.size(), end, set);
  if (error != std::errc() || at != end) {
    errno = EINVAL;
    return {};
  }
  return FdSets::of_process().open(set, flags);
}

}  // namespace limen
