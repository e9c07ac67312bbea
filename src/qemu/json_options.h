// Options whose argument is a JSON object in place of a key=value list.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "qemu/key_values.h"

namespace limen::qemu {

/// QEMU decides by the first character.
[[nodiscard]] inline bool is_json(std::string_view argument) { return argument.starts_with('{'); }

/// The object; errors are worded as QEMU's.
Result<nlohmann::json> parse_json_option(const std::string& argument);

enum class JsonType : uint8_t { kText, kBoolean, kNumber };

/// The key=value list that means the same: a member of a member gets its name behind a dot, a list
/// becomes a key that stands several times. `type_of` says what a member has to be; nothing: there
/// is no such member.
Result<KeyValues> key_values_of(
    const nlohmann::json& object,
    const std::function<std::optional<JsonType>(std::string_view name)>& type_of);

/// For an option whose members are all text: JSON, or a key=value list.
Result<KeyValues> read_texts(const std::string& argument, std::string_view implied_key);

}  // namespace limen::qemu
