// The key=value lists that QEMU's options take: "virtio-blk-pci,drive=d0,serial=a,,b".
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace limen::qemu {

/// One list, in order. A comma inside a value is doubled. The first part may leave its key out when
/// the option has an implied one; any other part without "=" is a flag that is "on".
class KeyValues {
 public:
  KeyValues() = default;
  explicit KeyValues(std::vector<std::pair<std::string, std::string>> pairs)
      : pairs_(std::move(pairs)) {}
  /// `implied_key`: the key of a first part without "="; empty: there is none.
  static Result<KeyValues> parse(std::string_view text, std::string_view implied_key);

  /// As -machine takes its keys: kernel_irqchip is kernel-irqchip.
  void write_keys_with_dashes();

  /// Fails for a key that is not among `known`, or that stands twice.
  Result<> check(std::span<const std::string_view> known) const;

  [[nodiscard]] std::optional<std::string> find(std::string_view key) const;
  [[nodiscard]] std::string text(std::string_view key, std::string_view otherwise = {}) const;
  Result<bool> boolean(std::string_view key, bool otherwise) const;
  /// One of `choices`; a key that is not there gives `otherwise`.
  Result<std::string> choice(std::string_view key, std::span<const std::string_view> choices,
                             std::string_view otherwise) const;

  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& pairs() const {
    return pairs_;
  }
  /// Asked for with "help" or "?" in place of a value or a key.
  [[nodiscard]] bool wants_help() const;

 private:
  std::vector<std::pair<std::string, std::string>> pairs_;
};

}  // namespace limen::qemu
