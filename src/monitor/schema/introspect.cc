// The schema as query-qmp-schema gives it (QEMU's SchemaInfo). Types have numbers for names there,
// so that nobody comes to depend on ours.
#include <map>
#include <nlohmann/json.hpp>

#include "monitor/schema/schema.h"

namespace limen::monitor {
namespace {

using Json = nlohmann::json;

class Introspection {
 public:
  std::string name_of(const Type& type) {
    if (const auto found = names_.find(&type); found != names_.end()) return found->second;
    std::string name;
    switch (type.kind) {
      case Type::Kind::kBuiltin:
        name = type.name == "uint" ? "int" : type.name;
        break;
      case Type::Kind::kArray:
        name = "[" + name_of(*type.element) + "]";
        break;
      case Type::Kind::kEnum:
      case Type::Kind::kObject:
      case Type::Kind::kAlternate:
        name = std::to_string(next_++);
        break;
    }
    names_[&type] = name;
    if (described_.emplace(name, true).second) describe(type, name);
    return name;
  }
  void add(Json entry) { entries_.push_back(std::move(entry)); }
  Json take() { return std::move(entries_); }

 private:
  void describe(const Type& type, const std::string& name) {
    Json entry = {{"name", name}};
    switch (type.kind) {
      case Type::Kind::kBuiltin: {
        const std::map<std::string, std::string> kJsonTypes = {
            {"str", "string"},    {"int", "int"},      {"uint", "int"},
            {"number", "number"}, {"bool", "boolean"}, {"any", "value"},
            {"null", "null"}};
        entry["meta-type"] = "builtin";
        entry["json-type"] = kJsonTypes.at(type.name);
        break;
      }
      case Type::Kind::kEnum:
        entry["meta-type"] = "enum";
        entry["values"] = type.values;
        entry["members"] = Json::array();
        for (const auto& value : type.values) entry["members"].push_back({{"name", value}});
        break;
      case Type::Kind::kArray:
        entry["meta-type"] = "array";
        entry["element-type"] = name_of(*type.element);
        break;
      case Type::Kind::kAlternate:
        entry["meta-type"] = "alternate";
        entry["members"] = Json::array();
        for (const Type* choice : type.choices)
          entry["members"].push_back({{"type", name_of(*choice)}});
        break;
      case Type::Kind::kObject:
        entry["meta-type"] = "object";
        entry["members"] = Json::array();
        for (const auto& member : type.members) {
          Json each = {{"name", member.name}, {"type", name_of(*member.type)}};
          if (member.optional) each["default"] = nullptr;
          entry["members"].push_back(std::move(each));
        }
        if (!type.tag.empty()) {
          entry["tag"] = type.tag;
          entry["variants"] = Json::array();
          for (const auto& [value, variant] : type.variants)
            entry["variants"].push_back({{"case", value}, {"type", name_of(*variant)}});
        }
        break;
    }
    add(std::move(entry));
  }

  std::map<const Type*, std::string> names_;
  std::map<std::string, bool> described_;
  unsigned next_ = 0;
  Json entries_ = Json::array();
};

}  // namespace

Json Schema::introspect() const {
  Introspection all;
  for (const auto& command : commands_) {
    Json entry = {{"name", command.name},
                  {"meta-type", "command"},
                  {"arg-type", all.name_of(*command.arguments)},
                  {"ret-type", all.name_of(*command.result)}};
    if (command.allow_oob) entry["allow-oob"] = true;
    if (!command.features.empty()) entry["features"] = command.features;
    all.add(std::move(entry));
  }
  for (const auto& event : events_)
    all.add({{"name", event.name}, {"meta-type", "event"}, {"arg-type", all.name_of(*event.data)}});
  return all.take();
}

}  // namespace limen::monitor
