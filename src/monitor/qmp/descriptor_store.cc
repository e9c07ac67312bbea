#include "monitor/qmp/descriptor_store.h"

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

}  // namespace limen::monitor
