// File descriptors that clients handed over.
#pragma once

#include <cstdint>
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

/// The sets of -add-fd and add-fd, which files are opened from as /dev/fdset/N.
class FdSets {
 public:
  struct Entry {
    UniqueFd descriptor;
    std::string opaque;
  };

  /// `set`: nothing for a new one. Returns the set.
  Result<uint64_t> add(std::optional<uint64_t> set, UniqueFd descriptor, const std::string& opaque);
  /// One descriptor of the set, or all of them.
  Result<> remove(uint64_t set, std::optional<int> descriptor);
  [[nodiscard]] const std::map<uint64_t, std::vector<Entry>>& sets() const { return sets_; }

 private:
  std::map<uint64_t, std::vector<Entry>> sets_;
};

}  // namespace limen::monitor
