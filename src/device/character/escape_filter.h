// The Ctrl-a commands of a terminal that is shared with the machine.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace limen::device {

/// Takes what a person types, carries out QEMU's escape commands (Ctrl-a h lists them) and passes
/// on the rest.
class EscapeFilter {
 public:
  static constexpr uint8_t kEscape = 1;  ///< Ctrl-a; see set_escape().

  struct Callbacks {
    std::function<void()> quit;
    std::function<void(std::string_view)> print;  ///< Shows text to the person, not to the guest.
    std::function<void()> next = {};              ///< Between the guest and the monitor.
    std::function<void()> send_break = {};
    std::function<void()> save = {};
    std::function<void()> timestamps = {};
  };

  explicit EscapeFilter(Callbacks callbacks) : callbacks_(std::move(callbacks)) {}
  /// What is left for the guest of `typed`.
  std::vector<uint8_t> filter(std::span<const uint8_t> typed);

  /// The key of every filter in this process, QEMU's -echr. Before any is made.
  static void set_escape(uint8_t key) { escape = key; }

 private:
  static inline uint8_t escape = kEscape;
  Callbacks callbacks_;
  bool escaped_ = false;
};

}  // namespace limen::device
