#include "monitor/schema/schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <nlohmann/json.hpp>

#include "monitor/qmp/command_table.h"

namespace limen::monitor {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Schema> parse(std::string_view text) {
  const std::array texts = {text};
  auto schema = Schema::parse(texts);
  EXPECT_TRUE(schema) << schema.error().message;
  return schema ? std::move(*schema) : nullptr;
}

std::string error_of(const Schema& schema, const Json& arguments) {
  const auto checked = check_value(*schema.find_command("c")->arguments, arguments, "");
  return checked ? "" : checked.error().message;
}

TEST(Schema, ChecksArgumentsInQemusWords) {
  const auto schema = parse(R"(
    enum Colour { red, blue }
    struct Inner { x: int }
    union Shape { kind: Colour } on kind { red: Inner }
    command c { name: str, *count: uint, *on: bool, *shape: Shape, *many: [int] }
  )");
  EXPECT_EQ(error_of(*schema, {{"name", "n"}, {"count", 1}, {"many", {1, 2}}}), "");
  EXPECT_EQ(error_of(*schema, Json::object()), "Parameter 'name' is missing");
  EXPECT_EQ(error_of(*schema, {{"name", 1}}),
            "Invalid parameter type for 'name', expected: string");
  EXPECT_EQ(error_of(*schema, {{"name", "n"}, {"on", "yes"}}),
            "Invalid parameter type for 'on', expected: boolean");
  EXPECT_EQ(error_of(*schema, {{"name", "n"}, {"count", -1}}),
            "Parameter 'count' expects a non-negative integer");
  EXPECT_EQ(error_of(*schema, {{"name", "n"}, {"other", 1}}), "Parameter 'other' is unexpected");
  EXPECT_EQ(error_of(*schema, {{"name", "n"}, {"many", {1, "2"}}}),
            "Invalid parameter type for 'many[1]', expected: integer");
  EXPECT_EQ(error_of(*schema, {{"name", "n"}, {"shape", {{"kind", "red"}}}}),
            "Parameter 'shape.x' is missing");
  EXPECT_EQ(error_of(*schema, {{"name", "n"}, {"shape", {{"kind", "green"}}}}),
            "Parameter 'shape.kind' does not accept value 'green'");
  EXPECT_EQ(error_of(*schema, {{"name", "n"}, {"shape", {{"kind", "blue"}, {"x", 1}}}}),
            "Parameter 'shape.x' is unexpected");
}

TEST(Schema, AlternatesAreToldApartByTheKindOfValue) {
  const auto schema = parse(R"(
    struct Inner { x: int }
    alternate Either { Inner, str, null }
    command c { *either: Either }
  )");
  for (const Json& good : {Json{{"x", 1}}, Json("name"), Json(nullptr)})
    EXPECT_EQ(error_of(*schema, {{"either", good}}), "");
  EXPECT_EQ(error_of(*schema, {{"either", 7}}),
            "Invalid parameter type for 'either', expected: Either");
  EXPECT_EQ(error_of(*schema, {{"either", {{"y", 1}}}}), "Parameter 'either.x' is missing");
}

TEST(Schema, MistakesInTheTextAreErrors) {
  for (const std::string_view text : {"struct A { x: Missing }", "struct A { x int }", "enum A { a",
                                      "command", "odd thing", "struct A {} struct A {}"}) {
    const std::array texts = {text};
    EXPECT_FALSE(Schema::parse(texts)) << text;
  }
}

TEST(Schema, IntrospectionDescribesEveryTypeThatItNames) {
  const Json all = CommandTable::all().schema().introspect();
  std::map<std::string, Json> by_name;
  for (const auto& entry : all)
    EXPECT_TRUE(by_name.emplace(entry["name"], entry).second) << entry["name"];
  const auto known = [&](const Json& name) { return by_name.contains(name.get<std::string>()); };
  for (const auto& entry : all) {
    for (const char* key : {"arg-type", "ret-type", "element-type"})
      if (entry.contains(key)) {
        EXPECT_TRUE(known(entry[key])) << entry;
      }
    if (entry["meta-type"] != "object" && entry["meta-type"] != "alternate") continue;
    for (const auto& member : entry["members"]) EXPECT_TRUE(known(member["type"])) << entry;
    for (const auto& variant : entry.value("variants", Json::array()))
      EXPECT_TRUE(known(variant["type"])) << entry;
  }
  EXPECT_EQ(by_name.at("query-status")["meta-type"], "command");
  EXPECT_EQ(by_name.at("STOP")["meta-type"], "event");
  const auto& result = by_name.at(by_name.at("query-status")["ret-type"]);
  EXPECT_EQ(result["meta-type"], "object");
  EXPECT_EQ(by_name.at("int")["json-type"], "int");
}

}  // namespace
}  // namespace limen::monitor
