#include "qemu/key_values.h"

#include <algorithm>

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

void KeyValues::write_keys_with_dashes() {
  for (auto& [key, value] : pairs_) std::ranges::replace(key, '_', '-');
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

}  // namespace limen::qemu
