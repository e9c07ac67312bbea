#include "web/command.h"

#include <gtest/gtest.h>

#include <string>

namespace limen::web {
namespace {

TEST(Command, IsReadFromJson) {
  for (const auto command :
       {Command::kPause, Command::kResume, Command::kPowerDown, Command::kReset, Command::kQuit}) {
    const auto text = R"({"command": ")" + std::string(command_name(command)) + R"("})";
    const auto read = parse_command(text);
    ASSERT_TRUE(read) << text;
    EXPECT_EQ(*read, command);
  }
}

TEST(Command, AnythingElseIsAnError) {
  for (const std::string text :
       {"", "pause", "[]", "{}", "null", "\"pause\"", R"({"command": 1})", R"({"command": "stop"})",
        R"({"command": "pause"} x)", "\xff\xfe", R"({"command": ["pause"]})"})
    EXPECT_FALSE(parse_command(text)) << text;
  EXPECT_FALSE(parse_command(std::string(kLongestCommand + 1, ' ')));
  EXPECT_FALSE(parse_command(std::string(kLongestCommand, '[')));
  EXPECT_NE(parse_command(R"({"command": "rest"})").error().message.find("did you mean 'reset'"),
            std::string::npos);
}

}  // namespace
}  // namespace limen::web
