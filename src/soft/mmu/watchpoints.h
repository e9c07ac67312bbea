// Watched memory: the data breakpoints of DR0 to DR3 (SDM Vol. 3B 17.2), and a debugger's.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "vcpu/debug.h"

namespace limen::soft {

class Watchpoints {
 public:
  /// What an access hit: DR6 bits in the low half, the debugger's by their index above.
  static constexpr unsigned kDebuggerShift = 32;
  static constexpr uint64_t kGuestHits = (uint64_t{1} << kDebuggerShift) - 1;
  /// How many a debugger may have.
  static constexpr size_t kMostOfDebugger = 64 - kDebuggerShift;

  /// Takes DR0-DR3 and DR7 (index 7): the enabled ones that watch data. False if nothing changed.
  bool set(const std::array<uint64_t, 8>& debug_registers);
  /// Takes the debugger's, at most kMostOfDebugger. False if nothing changed.
  bool set_debugger(std::span<const vcpu::Watchpoint> watchpoints);

  [[nodiscard]] bool any() const { return count_ != 0; }
  /// Whether the page around `linear` holds one that a read (a write) can hit.
  [[nodiscard]] bool watches_page(uint64_t linear, bool write) const;
  /// Whether the page around `linear` holds any. In line: for callers that must leave vector
  /// registers alone.
  [[gnu::always_inline]] [[nodiscard]] bool touches_page(uint64_t linear) const {
    for (unsigned i = 0; i < count_; ++i)
      if (first_[i].in_page(linear)) return true;
    return false;
  }
  /// Those that an access to [linear, linear + size) hits.
  [[nodiscard]] uint64_t hits(uint64_t linear, uint64_t size, bool write) const;
  /// The debugger's by its index.
  [[nodiscard]] vcpu::Watchpoint of_debugger(size_t index) const { return debugger_[index]; }

 private:
  struct Watch {
    uint64_t start = 0;
    uint64_t size = 0;
    bool reads = false;
    bool writes = false;
    uint8_t number = 0;  ///< Its bit in hits().
    bool operator==(const Watch&) const = default;

    [[nodiscard]] bool in_page(uint64_t linear) const {
      return linear >> 12 >= start >> 12 && linear >> 12 <= (start + (size - 1)) >> 12;
    }
  };
  void gather();

  std::array<Watch, 4> guest_{};
  unsigned guest_count_ = 0;
  std::vector<vcpu::Watchpoint> debugger_;
  std::vector<Watch> watches_;  // all of them
  const Watch* first_ = nullptr;
  unsigned count_ = 0;
};

}  // namespace limen::soft
