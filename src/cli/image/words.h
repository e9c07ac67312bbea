// The words behind a verb of limen-img, sorted out as getopt_long does for qemu-img.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace limen::cli::image {

struct Flag {
  std::string_view short_name;  ///< "-f", or "" for none.
  std::string_view long_name;   ///< "--format", or "".
  bool has_value = false;
};

class Words {
 public:
  /// Errors name the verb, the option and the nearest that there is.
  static Result<Words> parse(std::string_view verb, std::span<const Flag> flags,
                             std::span<const std::string> arguments);

  /// By short name, or by long name where there is no other.
  [[nodiscard]] bool has(std::string_view name) const { return values_.contains(name); }
  /// The last value that was given, or `otherwise`.
  [[nodiscard]] std::string text(std::string_view name, std::string_view otherwise = "") const;
  [[nodiscard]] std::vector<std::string> all(std::string_view name) const;
  Result<uint64_t> number(std::string_view name, uint64_t otherwise) const;
  Result<uint64_t> size(std::string_view name, uint64_t otherwise) const;
  /// One of human and json.
  Result<bool> json_output() const;

  [[nodiscard]] const std::vector<std::string>& positional() const { return positional_; }
  [[nodiscard]] const std::string& verb() const { return verb_; }
  /// Fails unless there are as many words as `what` has ("FILE SIZE").
  Result<> expect(size_t count, std::string_view what) const;

 private:
  std::string verb_;
  std::map<std::string, std::vector<std::string>, std::less<>> values_;
  std::vector<std::string> positional_;
};

/// The pairs of all `-o key=value,...`; a comma in a value is doubled.
Result<std::map<std::string, std::string>> parse_options(const std::vector<std::string>& lists);

Result<bool> parse_switch(std::string_view key, std::string_view value);

}  // namespace limen::cli::image
