// The machine's parts as QEMU's object model names them: paths, types, properties.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace limen::machine {
class Machine;
}

namespace limen::monitor {

struct ObjectProperty {
  std::string name;
  std::string type;  ///< "str", "bool", "uint64", or "child<TYPE>" for an object below.
  nlohmann::json value;
};

struct Object {
  std::string type;
  std::vector<ObjectProperty> properties;
};

/// The object at an absolute path.
[[nodiscard]] std::optional<Object> find_object(machine::Machine& machine, const std::string& path);

struct TypeInfo {
  std::string name;
  std::string parent;
  bool abstract = false;
};
/// What -global can set of parts that boards have anyway: numbers, by type.
[[nodiscard]] const std::map<std::string, std::vector<std::string>>& chipset_properties();
/// Every type that a machine of this program can have.
[[nodiscard]] std::vector<TypeInfo> object_types();
/// Whether `type` is `wanted` or one of its kind.
[[nodiscard]] bool is_a(const std::vector<TypeInfo>& types, std::string_view type,
                        std::string_view wanted);

}  // namespace limen::monitor
