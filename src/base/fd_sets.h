// File descriptors that were handed to this process under a number: -add-fd and QMP's add-fd.
// Whoever opens a file by the name /dev/fdset/N gets one of set N.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace limen {

/// Thread-safe.
class FdSets {
 public:
  struct Entry {
    int descriptor = -1;
    std::string opaque;
  };

  /// Those of the process: what its descriptors belong to.
  static FdSets& of_process();

  /// `set`: nothing for a new one. Returns the set.
  Result<uint64_t> add(std::optional<uint64_t> set, UniqueFd descriptor, const std::string& opaque);
  /// One descriptor of the set, or all of them.
  Result<> remove(uint64_t set, std::optional<int> descriptor);
  [[nodiscard]] std::map<uint64_t, std::vector<Entry>> sets() const;
  /// A duplicate of the set's descriptor that was opened for what `flags` (O_RDONLY, ...) say; one
  /// that is not valid, and errno, where there is none.
  [[nodiscard]] UniqueFd open(uint64_t set, int flags) const;

 private:
  struct Owned {
    UniqueFd descriptor;
    std::string opaque;
  };
  mutable std::mutex mutex_;
  std::map<uint64_t, std::vector<Owned>> sets_;
};

/// open(2), and /dev/fdset/N.
[[nodiscard]] UniqueFd open_file(const std::string& path, int flags, unsigned mode = 0);

}  // namespace limen
