#include "qemu/key_values.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/nearest.h"
#include "base/option_list.h"
#include "machine/device_catalog.h"

namespace limen::qemu {
namespace {

bool is_help(std::string_view text) { return text == "help" || text == "?"; }

}  // namespace

Result<KeyValues> KeyValues::parse(std::string_view text, std::string_view implied_key) {
  KeyValues list;
  list.pairs_ = LIMEN_TRY(parse_option_list(text, implied_key));
  return list;
}

Result<> KeyValues::check(std::span<const std::string_view> known) const {
  for (size_t i = 0; i < pairs_.size(); ++i) {
    const auto& key = pairs_[i].first;
    if (std::ranges::find(known, std::string_view(key)) == known.end())
      return fail("Invalid parameter '{}'{}", key, choice_hint(key, known));
    for (size_t j = 0; j < i; ++j)
      if (pairs_[j].first == key) return fail("property '{}' is given twice", key);
  }
  return {};
}

std::optional<std::string> KeyValues::find(std::string_view key) const {
  for (const auto& [name, value] : pairs_)
    if (name == key) return value;
  return std::nullopt;
}

std::string KeyValues::text(std::string_view key, std::string_view otherwise) const {
  return find(key).value_or(std::string(otherwise));
}

Result<bool> KeyValues::boolean(std::string_view key, bool otherwise) const {
  const auto value = find(key);
  if (!value) return otherwise;
  auto parsed = machine::parse_boolean(*value);
  if (!parsed) return fail("Parameter '{}' expects 'on' or 'off', not '{}'", key, *value);
  return *parsed;
}

Result<std::string> KeyValues::choice(std::string_view key,
                                      std::span<const std::string_view> choices,
                                      std::string_view otherwise) const {
  const auto value = find(key);
  if (!value) return std::string(otherwise);
  if (std::ranges::find(choices, std::string_view(*value)) == choices.end())
    return fail("Parameter '{}' does not accept value '{}'{}", key, *value,
                choice_hint(*value, choices));
  return *value;
}

bool KeyValues::wants_help() const {
  return std::ranges::any_of(
      pairs_, [](const auto& pair) { return is_help(pair.first) || is_help(pair.second); });
}

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

}  // namespace limen::qemu
