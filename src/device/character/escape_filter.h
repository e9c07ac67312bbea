// The Ctrl-a commands of a terminal that is shared with the machine.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace limen::device {

/// Takes what a person types, carries out QEMU's escape commands and passes on the rest: Ctrl-a x
/// ends the machine, Ctrl-a h shows help, Ctrl-a a (or Ctrl-a Ctrl-a) sends
/// Ctrl-a.
class EscapeFilter {
 public:
  static constexpr uint8_t kEscape = 1;

  struct Callbacks {
    std::function<void()> quit;
    std::function<void(std::string_view)> print;  ///< Shows text to the person, not to the guest.
  };

  explicit EscapeFilter(Callbacks callbacks) : callbacks_(std::move(callbacks)) {}
  /// What is left for the guest of `typed`.
  std::vector<uint8_t> filter(std::span<const uint8_t> typed);

 private:
  Callbacks callbacks_;
  bool escaped_ = false;
};

}  // namespace limen::device
