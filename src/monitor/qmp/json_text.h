// JSON as it stands on a QMP stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "base/result.h"

namespace limen::monitor {

/// As QEMU writes it: `{"return": {}}`; `pretty` puts every member on a line of its own.
[[nodiscard]] std::string write_json(const nlohmann::json& value, bool pretty);

/// A message of a client's. Strings may stand in single quotes, as QEMU allows. Errors are worded
/// as QEMU's.
Result<nlohmann::json> parse_json(const std::string& text);

/// Finds where messages end in a stream of bytes: at the bracket that closes the first one, not at
/// the end of a line. What it keeps is bounded.
class JsonFramer {
 public:
  static constexpr size_t kMostBytes = size_t{16} << 20;
  static constexpr size_t kMostNesting = 1024;

  /// `complete` gets the text of a message, or the reason why one was thrown away.
  explicit JsonFramer(std::function<void(Result<std::string>)> complete)
      : complete_(std::move(complete)) {}

  void feed(std::span<const uint8_t> bytes);
  /// Forgets half a message.
  void reset();

 private:
  void take(char c);
  void finish();
  void give_up(const char* reason);

  std::function<void(Result<std::string>)> complete_;
  std::string text_;
  size_t nesting_ = 0;
  char quote_ = 0;  // that ends the string; 0 outside
  bool escaped_ = false;
  bool skipping_ = false;  // what is too long, to its end
};

}  // namespace limen::monitor
