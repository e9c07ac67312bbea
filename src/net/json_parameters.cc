#include "net/json_parameters.h"

#include <nlohmann/json.hpp>

namespace limen::net {
namespace {

using Json = nlohmann::json;

Result<std::string> scalar_text(const Json& value, const std::string& name) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return std::string(value.get<bool>() ? "on" : "off");
  if (value.is_number_integer()) return value.dump();
  return fail("Invalid parameter type for '{}'", name);
}

Result<> flatten(const Json& object, const std::string& prefix, Parameters& into) {
  for (const auto& [key, value] : object.items()) {
    const std::string name = prefix + key;
    if (value.is_object()) {
      LIMEN_TRY(flatten(value, name + ".", into));
    } else if (value.is_array()) {
      for (const auto& item : value) {
        const Json& text = item.is_object() && item.contains("str") ? item["str"] : item;
        into.emplace_back(name, LIMEN_TRY(scalar_text(text, name)));
      }
    } else {
      into.emplace_back(name, LIMEN_TRY(scalar_text(value, name)));
    }
  }
  return {};
}

}  // namespace

Result<Parameters> json_parameters(const Json& object) {
  if (!object.is_object()) return fail("JSON parse error, an object expected");
  Parameters parameters;
  LIMEN_TRY(flatten(object, "", parameters));
  return parameters;
}

}  // namespace limen::net
