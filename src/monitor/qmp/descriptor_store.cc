#include "monitor/qmp/descriptor_store.h"

#include <algorithm>

namespace limen::monitor {

std::optional<UniqueFd> DescriptorStore::take_arrived() {
  if (arrived_.empty()) return std::nullopt;
  UniqueFd first = std::move(arrived_.front());
  arrived_.erase(arrived_.begin());
  return first;
}

Result<UniqueFd> DescriptorStore::take(const std::string& name) {
  const auto found = named_.find(name);
  if (found == named_.end()) return fail("File descriptor named '{}' not found", name);
  UniqueFd taken = std::move(found->second);
  named_.erase(found);
  return taken;
}

Result<uint64_t> FdSets::add(std::optional<uint64_t> set, UniqueFd descriptor,
                             const std::string& opaque) {
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
  const auto found = sets_.find(set);
  if (found == sets_.end()) return fail("File descriptor named '{}' not found", what);
  const auto removed = std::erase_if(found->second, [&](const Entry& entry) {
    return !descriptor || entry.descriptor.get() == *descriptor;
  });
  if (found->second.empty()) sets_.erase(found);
  if (removed == 0) return fail("File descriptor named '{}' not found", what);
  return {};
}

}  // namespace limen::monitor
