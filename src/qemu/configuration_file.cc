#include "qemu/configuration_file.h"

#include <string_view>

namespace limen::qemu {
namespace {

constexpr std::string_view kSpaces = " \t\r";

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) - begin + 1);
}

/// Takes `"text"` and nothing behind it: a quote cannot stand inside.
bool unquote(std::string_view quoted, std::string& into) {
  if (quoted.size() < 2 || !quoted.starts_with('"') || !quoted.ends_with('"')) return false;
  quoted.remove_prefix(1);
  quoted.remove_suffix(1);
  if (quoted.find('"') != std::string_view::npos) return false;
  into = quoted;
  return true;
}

/// [group] or [group "id"].
bool parse_heading(std::string_view line, ConfigurationSection& section) {
  if (!line.ends_with(']')) return false;
  line = trimmed(line.substr(1, line.size() - 2));
  const auto end = line.find_first_of(kSpaces);
  section.group = line.substr(0, end);
  if (section.group.empty() || section.group.find('"') != std::string::npos) return false;
  if (end == std::string_view::npos) return true;
  std::string id;
  if (!unquote(trimmed(line.substr(end)), id)) return false;
  section.values.emplace_back("id", id);
  return true;
}

}  // namespace

Result<std::vector<ConfigurationSection>> parse_configuration(std::istream& text) {
  std::vector<ConfigurationSection> sections;
  unsigned number = 0;
  for (std::string whole; std::getline(text, whole);) {
    ++number;
    const auto line = trimmed(whole);
    if (line.empty() || line.starts_with('#')) continue;
    if (line.starts_with('[')) {
      ConfigurationSection section{.line = number};
      if (!parse_heading(line, section))
        return fail("line {}: parse error; a heading is [group] or [group \"id\"]", number);
      sections.push_back(std::move(section));
      continue;
    }
    const auto equals = line.find('=');
    const auto key = trimmed(line.substr(0, equals));
    std::string value;
    if (equals == std::string_view::npos || key.empty() ||
        key.find_first_of(" \t\"") != std::string_view::npos ||
        !unquote(trimmed(line.substr(equals + 1)), value))
      return fail("line {}: parse error; a line is key = \"value\"", number);
    if (sections.empty()) return fail("line {}: no group defined", number);
    sections.back().values.emplace_back(key, value);
  }
  return sections;
}

}  // namespace limen::qemu
