#include "cli/image/words.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/nearest.h"
#include "block/image_tool.h"

namespace limen::cli::image {
namespace {

bool is_relative_size(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && word[1] >= '0' && word[1] <= '9';
}

std::string_view key_of(const Flag& flag) {
  return flag.short_name.empty() ? flag.long_name : flag.short_name;
}

std::unexpected<Error> unknown(std::string_view verb, std::string_view name,
                               std::span<const Flag> flags) {
  std::vector<std::string_view> names;
  for (const auto& flag : flags)
    for (const auto each : {flag.short_name, flag.long_name})
      if (!each.empty()) names.push_back(each);
  return fail("{}: unknown option '{}'{}", verb, name, choice_hint(name, names));
}

}  // namespace

Result<Words> Words::parse(std::string_view verb, std::span<const Flag> flags,
                           std::span<const std::string> arguments) {
  Words words;
  words.verb_ = verb;
  size_t next = 0;
  const auto value_of = [&](std::string_view name) -> Result<std::string> {
    if (next >= arguments.size()) return fail("{}: option '{}' needs a value", verb, name);
    return arguments[next++];
  };
  bool only_words = false;
  while (next < arguments.size()) {
    const std::string& word = arguments[next++];
    if (only_words || !word.starts_with('-') || word == "-" || is_relative_size(word)) {
      words.positional_.push_back(word);
      continue;
    }
    if (word == "--") {
      only_words = true;
      continue;
    }
    if (word.starts_with("--")) {
      const auto equals = word.find('=');
      const std::string name = word.substr(0, equals);
      const auto flag = std::ranges::find(flags, std::string_view(name), &Flag::long_name);
      if (flag == flags.end()) return unknown(verb, name, flags);
      auto& values = words.values_[std::string(key_of(*flag))];
      if (!flag->has_value && equals != std::string::npos)
        return fail("{}: option '{}' takes no value", verb, name);
      if (!flag->has_value)
        values.emplace_back();
      else
        values.push_back(equals != std::string::npos ? word.substr(equals + 1)
                                                     : LIMEN_TRY(value_of(name)));
      continue;
    }
    // Letters may stand together, the last with its value: -pcO qcow2, -Oqcow2.
    for (size_t i = 1; i < word.size(); ++i) {
      const std::string name = {'-', word[i]};
      const auto flag = std::ranges::find(flags, std::string_view(name), &Flag::short_name);
      if (flag == flags.end()) return unknown(verb, i == 1 && word.size() > 2 ? word : name, flags);
      auto& values = words.values_[std::string(key_of(*flag))];
      if (!flag->has_value) {
        values.emplace_back();
        continue;
      }
      values.push_back(i + 1 < word.size() ? word.substr(i + 1) : LIMEN_TRY(value_of(name)));
      break;
    }
  }
  return words;
}

std::string Words::text(std::string_view name, std::string_view otherwise) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::string(otherwise) : found->second.back();
}

std::vector<std::string> Words::all(std::string_view name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::vector<std::string>{} : found->second;
}

Result<uint64_t> Words::number(std::string_view name, uint64_t otherwise) const {
  if (!has(name)) return otherwise;
  const auto value = text(name);
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number, 10);
  if (error != std::errc() || end != value.data() + value.size())
    return fail("{}: '{}' of option '{}' is not a number", verb_, value, name);
  return number;
}

Result<uint64_t> Words::size(std::string_view name, uint64_t otherwise) const {
  if (!has(name)) return otherwise;
  return block::parse_byte_size(text(name));
}

Result<bool> Words::json_output() const {
  constexpr std::array<std::string_view, 2> kOutputs = {"human", "json"};
  const auto value = text("--output", "human");
  if (std::ranges::find(kOutputs, std::string_view(value)) == kOutputs.end())
    return fail("{}: unknown output '{}'{}", verb_, value, choice_hint(value, kOutputs));
  return value == "json";
}

Result<> Words::expect(size_t count, std::string_view what) const {
  if (positional_.size() == count) return {};
  if (positional_.size() > count)
    return fail("{}: '{}' is one word too many: expected {}", verb_, positional_[count], what);
  return fail("{}: a word is missing: expected {}", verb_, what);
}

Result<std::map<std::string, std::string>> parse_options(const std::vector<std::string>& lists) {
  std::map<std::string, std::string> options;
  for (const auto& list : lists) {
    std::string part;
    const auto take = [&]() -> Result<> {
      if (part.empty()) return {};
      const auto equals = part.find('=');
      // As in QEMU, a word alone switches something on.
      options[part.substr(0, equals)] =
          equals == std::string::npos ? "on" : part.substr(equals + 1);
      part.clear();
      return {};
    };
    for (size_t i = 0; i < list.size(); ++i) {
      if (list[i] != ',') {
        part += list[i];
      } else if (i + 1 < list.size() && list[i + 1] == ',') {
        part += ',';
        ++i;
      } else {
        LIMEN_TRY(take());
      }
    }
    LIMEN_TRY(take());
  }
  return options;
}

Result<bool> parse_switch(std::string_view key, std::string_view value) {
  if (value == "on" || value == "true" || value == "yes" || value == "y") return true;
  if (value == "off" || value == "false" || value == "no" || value == "n") return false;
  return fail("parameter '{}' expects 'on' or 'off', not '{}'", key, value);
}

}  // namespace limen::cli::image
