#include "monitor/qmp/json_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace limen::monitor {
namespace {

using ::testing::ElementsAre;
using Json = nlohmann::json;

std::vector<std::string> frame(std::string_view stream, size_t step = 1) {
  std::vector<std::string> messages;
  JsonFramer framer([&](const Result<std::string>& message) {
    messages.push_back(message ? *message : "error: " + message.error().message);
  });
  for (size_t at = 0; at < stream.size(); at += step) {
    const auto part = stream.substr(at, step);
    framer.feed({reinterpret_cast<const uint8_t*>(part.data()), part.size()});
  }
  return messages;
}

TEST(JsonFramer, MessagesEndWithTheirBracketsAndNotWithLines) {
  EXPECT_THAT(frame("{\"a\": \n {}}{\"b\":[1,2]}\r\n"),
              ElementsAre("{\"a\": \n {}}", "{\"b\":[1,2]}"));
  EXPECT_THAT(frame("{\"a\": \"}{\\\"\"}", 3), ElementsAre("{\"a\": \"}{\\\"\"}"));
  EXPECT_THAT(frame("{'a': '}'}"), ElementsAre("{'a': '}'}"));
  EXPECT_THAT(frame("{\"half\": "), ElementsAre());
  EXPECT_THAT(frame("hello 42\n"), ElementsAre("hello", "42"));
  EXPECT_THAT(frame("} {}"), ElementsAre("}", "{}"));
}

TEST(JsonFramer, ALineEndInAStringIsAnErrorAndWhatFollowsIsRead) {
  EXPECT_THAT(frame("{\"a\n{}"), ElementsAre("error: JSON parse error, invalid keyword", "{}"));
}

TEST(JsonFramer, AByteThatIsNoTextBeginsAnew) {
  EXPECT_THAT(frame("{\"half\": \xff{}"), ElementsAre("{}"));
}

TEST(JsonFramer, WhatIsKeptIsBounded) {
  const std::string deep(JsonFramer::kMostNesting + 10, '[');
  EXPECT_THAT(frame(deep, 100), ElementsAre("error: JSON nesting depth limit exceeded"));
  const std::string closed = deep + std::string(deep.size(), ']') + "{}";
  EXPECT_THAT(frame(closed, 100), ElementsAre("error: JSON nesting depth limit exceeded", "{}"));
  const std::string large = "[\"" + std::string(JsonFramer::kMostBytes, 'x') + "\"]{}";
  EXPECT_THAT(frame(large, 4096), ElementsAre("error: JSON token size limit exceeded", "{}"));
}

TEST(JsonText, ReadsWhatQemuReadsAndNamesWhatIsWrong) {
  EXPECT_EQ(parse_json("{'a': 'it''s'}").has_value(), false);
  EXPECT_EQ(*parse_json("{'a': 'say \"x\"', \"b\": \"'\"}"),
            (Json{{"a", "say \"x\""}, {"b", "'"}}));
  EXPECT_EQ(parse_json("hello").error().message, "JSON parse error, invalid keyword 'hello'");
  EXPECT_EQ(parse_json("}").error().message, "JSON parse error, expecting value");
  EXPECT_EQ(parse_json("{\"a\": }").error().message, "Invalid JSON syntax");
}

TEST(JsonText, IsWrittenAsQemuWritesIt) {
  const Json value = {{"return", {{"a", {1, true}}, {"b", Json::object()}}}};
  EXPECT_EQ(write_json(value, false), "{\"return\": {\"a\": [1, true], \"b\": {}}}");
  EXPECT_EQ(write_json(Json{{"a", {1}}}, true), "{\n    \"a\": [\n        1\n    ]\n}");
  EXPECT_EQ(write_json("\xff\n", false), "\"\\ufffd\\n\"");
}

}  // namespace
}  // namespace limen::monitor
