// The kernel's structures that end in a list.
#pragma once

#include <cstddef>
#include <vector>

namespace limen::kvm {

/// A zeroed Header with room for `count` times Entry behind it. Who fills it in counts.
template <typename Header, typename Entry>
class Listed {
 public:
  explicit Listed(size_t count) : bytes_(sizeof(Header) + count * sizeof(Entry)) {}

  [[nodiscard]] Header* get() { return reinterpret_cast<Header*>(bytes_.data()); }
  Header* operator->() { return get(); }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace limen::kvm
