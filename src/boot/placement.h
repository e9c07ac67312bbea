// Which parts of RAM are free for the kernel and for what is handed to it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "boot/memory_map.h"
#include "memory/guest_memory.h"

namespace limen::boot {

/// Hands out guest-physical ranges below 4 GiB: all that the map calls RAM and that nothing was
/// placed in. The first page is left alone: it is the interrupt table and data of real mode.
class Placement {
 public:
  Placement(const memory::GuestMemory& memory, std::span<const E820Entry> map);

  /// Takes [start, start + size) if all of it is free.
  bool take(uint64_t start, uint64_t size);
  /// Takes the lowest or highest aligned range inside [from, to). `alignment` is a power of two.
  std::optional<uint64_t> take_lowest(uint64_t size, uint64_t alignment, uint64_t from,
                                      uint64_t to);
  std::optional<uint64_t> take_highest(uint64_t size, uint64_t alignment, uint64_t from,
                                       uint64_t to);
  /// The longest free run inside [from, to), for messages.
  [[nodiscard]] uint64_t largest(uint64_t from, uint64_t to) const;

 private:
  struct Range {
    uint64_t start = 0;
    uint64_t end = 0;
  };
  void remove(uint64_t start, uint64_t end);
  std::vector<Range> free_;  // sorted, without overlaps
};

}  // namespace limen::boot
