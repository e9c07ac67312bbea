// File descriptors that clients handed over.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace limen::monitor {

/// Those of one client: what came with the last message, and what getfd gave a name.
class DescriptorStore {
 public:
  void arrived(std::vector<UniqueFd> descriptors) {
    if (!descriptors.empty()) arrived_ = std::move(descriptors);
  }
  /// The first of those that came and were not taken yet.
  std::optional<UniqueFd> take_arrived();
  void name(const std::string& name, UniqueFd descriptor) { named_[name] = std::move(descriptor); }
  /// Fails for a name that there is not.
  Result<UniqueFd> take(const std::string& name);

 private:
  std::vector<UniqueFd> arrived_;
  std::map<std::string, UniqueFd> named_;
};

}  // namespace limen::monitor
