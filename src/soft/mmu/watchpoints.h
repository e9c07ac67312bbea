// The data breakpoints of DR0 to DR3 (SDM Vol. 3B 17.2).
#pragma once

#include <array>
#include <cstdint>

namespace limen::soft {

class Watchpoints {
 public:
  /// Takes DR0-DR3 and DR7 (index 7): the enabled ones that watch data. False if nothing changed.
  bool set(const std::array<uint64_t, 8>& debug_registers);

  [[nodiscard]] bool any() const { return count_ != 0; }
  /// Whether the page around `linear` holds one that a read (a write) can hit.
  [[nodiscard]] bool watches_page(uint64_t linear, bool write) const;
  /// DR6 bits of those that an access to [linear, linear + size) hits.
  [[nodiscard]] uint64_t hits(uint64_t linear, uint64_t size, bool write) const;

 private:
  struct Watch {
    uint64_t start = 0;
    uint64_t size = 0;
    bool reads = false;  ///< Reads and writes, not writes alone.
    uint8_t number = 0;
    bool operator==(const Watch&) const = default;
  };
  std::array<Watch, 4> watches_{};
  unsigned count_ = 0;
};

}  // namespace limen::soft
