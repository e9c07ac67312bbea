// Accesses that share one check of the soft TLB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "soft/translate/item.h"

namespace limen::soft::translate {

/// A window: bytes of one page for which the soft TLB is asked once, at [base + index * 2^scale +
/// displacement].
struct Window {
  static constexpr uint8_t kNone = 16;

  uint8_t number = 0;  ///< From 1 on.
  uint8_t item = 0;    ///< Before which it is opened.
  uint8_t last = 0;    ///< Item of its last access.
  uint8_t base = kNone;
  uint8_t index = kNone;
  uint8_t scale = 0;
  bool write = false;  ///< Some access writes.
  bool stack = false;  ///< At RSP or RBP, which stands where RSP did; asks for the stack's page.
  bool polls = false;  ///< Of the stack, whose page a call for attention takes away: a poll.
  bool inner = false;  ///< Of an InnerLoop: open before its first item, round after round.
  /// `inner`: the difference is one of host addresses and what the index makes of the guest's: the
  /// base, which does not change, is part of it.
  bool has_base = false;
  /// In 32-bit code: registers that it is reached through hold something else than when it was
  /// opened, so it must not be at an edge (kEdge).
  bool varies = false;
  uint16_t size = 0;  ///< Bytes.
  int32_t displacement = 0;
  int32_t step = 0;  ///< `inner`: how far a round moves it, in bytes.
};

/// The last items of a block if they are rounds of a loop, the last one of each round being the
/// branch to its start.
struct InnerLoop {
  size_t at = SIZE_MAX;  ///< The first item; SIZE_MAX: there is none.
  size_t round = 1;      ///< Items.

  [[nodiscard]] bool begins_round(size_t item) const {
    return item >= at && (item - at) % round == 0;
  }
};

/// Looks through a block, whose live flags are known, for accesses that reach bytes near each other
/// through registers whose difference is known, and for accesses whose check would destroy flags.
/// Fills in the windows of its items, `inside_window`, and `windows` in the order in which they are
/// opened: with the first access or before it, where flags are dead. `poll_at`: before this item
/// the code may be left and entered again. No two windows of the stack are open at a time.
///
/// 32-bit code adds up addresses modulo 2^32, the host does not. An address is the same either way
/// if another one of the same page is, whose registers have the same values, or if it is one
/// register and a small displacement, and not at an edge: Window::varies. Opening a window asks for
/// the page of the sum as the host makes it, which is nobody's from 2^32 on.
///
/// In an inner loop, accesses whose addresses each round changes by what is known, and a little,
/// are made through windows that stay open from one round to the next: Window::inner.
class WindowSearch {
 public:
  WindowSearch();
  ~WindowSearch();
  WindowSearch(const WindowSearch&) = delete;
  WindowSearch& operator=(const WindowSearch&) = delete;

  void run(std::span<Item> items, size_t poll_at, const InnerLoop& inner,
           std::vector<Window>& windows);

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace limen::soft::translate
