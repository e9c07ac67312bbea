#include "base/size_text.h"

#include <charconv>
#include <cmath>

namespace limen {

Result<uint64_t> parse_size(std::string_view text, uint64_t default_unit) {
  constexpr std::string_view kUnits = "BKMGTPE";
  std::string_view digits = text;
  uint64_t unit = default_unit;
  if (!digits.empty()) {
    const char letter = static_cast<char>(digits.back() & ~0x20);
    if (const auto power = kUnits.find(letter); power != std::string_view::npos) {
      unit = uint64_t{1} << (10 * power);
      digits.remove_suffix(1);
    }
  }
  const auto bad = [&] {
    return fail("'{}' is not a size; write a number and B, K, M, G, T, P or E, as in 512M or 2G",
                text);
  };
  const auto point = digits.find('.');
  const auto whole_digits = digits.substr(0, point);
  uint64_t whole = 0;
  const auto [end, error] =
      std::from_chars(whole_digits.data(), whole_digits.data() + whole_digits.size(), whole);
  if (error == std::errc::result_out_of_range) return fail("'{}' is too large a size", text);
  if (error != std::errc() || end != whole_digits.data() + whole_digits.size()) return bad();
  uint64_t fraction = 0;
  if (point != std::string_view::npos) {
    double part = 0;
    double weight = 0.1;
    const auto decimals = digits.substr(point + 1);
    if (decimals.empty()) return bad();
    for (const char c : decimals) {
      if (c < '0' || c > '9') return bad();
      part += weight * (c - '0');
      weight /= 10;
    }
    fraction = static_cast<uint64_t>(std::llround(part * static_cast<double>(unit)));
  }
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(whole, unit, &bytes) ||
      __builtin_add_overflow(bytes, fraction, &bytes))
    return fail("'{}' is too large a size", text);
  return bytes;
}

}  // namespace limen
